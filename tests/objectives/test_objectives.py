"""Losses against independent implementations, and that each objective teaches every part that it uses."""

from math import log

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of, views_of
from torch.nn import functional as F

from mmexp.fusion.concat import ConcatFusion
from mmexp.model import Model
from mmexp.objectives.bag_of_words import BagOfWords, word_shares
from mmexp.objectives.classify import Classify
from mmexp.objectives.contrastive import Contrastive, info_nce
from mmexp.objectives.distill import Distill
from mmexp.objectives.fixmatch import FixMatch
from mmexp.objectives.margin import Margin
from mmexp.objectives.masked import Masked
from mmexp.objectives.matching import Matching, _Candidates, hard_negatives
from mmexp.objectives.multilabel import Multilabel
from mmexp.objectives.regress import Regress
from mmexp.objectives.siglip import SigLip
from mmexp.objectives.supcon import SupCon
from mmexp.objectives.triplet import Triplet
from mmexp.shapes import TeacherShape

VECTORS = TeacherShape({"vectors/image": 5, "vectors/text": 5})


def said(vectors):
    return {f"vectors/{name}": tensor for name, tensor in vectors.items()}


@pytest.fixture
def model():
    torch.manual_seed(0)
    encoders = {"image": TinyImage(), "text": TinyText()}
    return Model(encoders, ConcatFusion({"image": 16, "text": 12}, dim=8, hidden=8))


def unit(rows: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, 16, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_contrastive_agrees_with_open_clip_in_value_and_gradient():
    from open_clip.loss import ClipLoss

    image, text = unit(12, 0).requires_grad_(), unit(12, 1).requires_grad_()
    scale = torch.tensor(1 / 0.07)
    theirs = ClipLoss()(image, text, scale)
    positive = torch.eye(12, dtype=torch.bool)
    ours = (info_nce(image, text, scale, positive) + info_nce(text, image, scale, positive)) / 2
    assert abs(float((theirs - ours).detach())) < 1e-6
    for a, b in zip(torch.autograd.grad(theirs, (image, text)), torch.autograd.grad(ours, (image, text)), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_contrastive_of_uniform_similarities_is_the_logarithm_of_the_batch():
    same = torch.ones(8, 4) / 2
    assert info_nce(same, same, torch.tensor(10.0), torch.eye(8, dtype=torch.bool)).item() == pytest.approx(log(8))


def test_several_positives_share_the_probability():
    # With every key right, each has probability 1/B, whatever the order.
    same = torch.ones(8, 4) / 2
    every = torch.ones(8, 8, dtype=torch.bool)
    assert info_nce(same, same, torch.tensor(10.0), every).item() == pytest.approx(log(8))
    # Two rows of one concept: the second is right too, so a perfect split reaches log(2) and no more.
    keys = torch.eye(2).repeat_interleave(2, 0)
    positive = torch.block_diag(torch.ones(2, 2), torch.ones(2, 2)).bool()
    assert info_nce(keys, keys, torch.tensor(100.0), positive).item() == pytest.approx(log(2), abs=1e-4)


def test_hard_negatives_are_of_another_concept_and_alike():
    pooled = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [-1.0, 0.1]])
    chance, every = torch.tensor([0.1, 0.4, 0.6, 0.9]), torch.ones(4, dtype=torch.bool)
    rows = hard_negatives(pooled, pooled, torch.eye(4, dtype=torch.bool), 50.0, chance, every)
    assert rows.tolist() == [1, 0, 3, 2]
    assert hard_negatives(pooled, pooled, every.expand(4, 4), 5.0, chance, every).tolist() == [-1] * 4


def test_hard_negatives_are_drawn_in_proportion_to_exp_of_their_cosine():
    torch.manual_seed(0)
    keys, related = torch.randn(5, 3), torch.tensor([True, False, False, False, True]).expand(20000, 5)
    among = torch.tensor([True, True, True, False, True])
    queries = keys[:1].expand(20000, -1)
    drawn = hard_negatives(queries, keys, related, 2.0, torch.rand(20000), among)
    centred = F.normalize(keys - keys[among].mean(0), dim=-1)
    weight = torch.exp(2 * centred @ centred[0]) * torch.tensor([0, 1, 1, 0, 0])
    torch.testing.assert_close(torch.bincount(drawn, minlength=5) / 20000, weight / weight.sum(), atol=0.015, rtol=0)


def test_word_shares_leave_marks_and_padding_alone():
    text = TinyText().prepare(["aab", "b"])
    shares = word_shares(text, TinyText.vocab_size)
    a, b = (int(text["ids"][0, place]) for place in (1, 3))
    assert shares[0, a].item() == pytest.approx(2 / 3) and shares[0, b].item() == pytest.approx(1 / 3)
    assert shares[1, b] == 1 and torch.allclose(shares.sum(1), torch.ones(2))


def test_bag_of_words_agrees_with_cross_entropy(model):
    objective, batch = BagOfWords(model.shape()), batch_of()
    logits = objective.heads["image"](model.encode(batch)["image"].pooled)
    expected = F.cross_entropy(logits, word_shares(batch["text"], TinyText.vocab_size))
    assert torch.allclose(objective(views_of(model, batch)).losses["bag_of_words"], expected)


def test_matching_of_an_undecided_head_is_log_two(model):
    objective = Matching(model.shape())
    torch.nn.init.zeros_(objective.head.weight)
    torch.nn.init.zeros_(objective.head.bias)
    losses = objective(views_of(model, batch_of())).losses
    assert losses["matching"].item() == pytest.approx(log(2))


def test_matching_agrees_with_a_plain_loop(model):
    """Each row's true pair, and the pair in which one modality is that of another row: binary cross-entropy of either."""
    objective, batch = Matching(model.shape()), batch_of()
    views = views_of(model, batch)
    encoded, rows = model.encode(batch), objective._rows(_Candidates(views), views)
    own, losses, swapped = torch.arange(8), [], 0
    for row in range(8):
        for target, places in ((1.0, dict.fromkeys(rows, own)), (0.0, rows)):
            pair = {name: encoded[name][places[name][row : row + 1]] for name in encoded}
            logit = objective.head(model.fuse(pair).pooled)[0, 0]
            losses.append(F.binary_cross_entropy_with_logits(logit, torch.tensor(target)))
        swapped += int((rows["image"][row] != row) != (rows["text"][row] != row))
    assert swapped == 8, "one modality of each pair, and not both"
    ours, theirs = objective(views).losses["matching"], torch.stack(losses).mean()
    torch.testing.assert_close(ours, theirs)
    parameters = [*objective.parameters(), *model.fusion.parameters(), *model.encoders.parameters()]
    found, expected = (torch.autograd.grad(loss, parameters) for loss in (ours, theirs))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_classify_agrees_with_cross_entropy_and_skips_rows_without_label(model):
    objective, batch = Classify(model.shape(num_classes=3)), batch_of()
    batch["label"][:4] = -1
    losses = objective(views_of(model, batch)).losses
    logits = objective.classify(model.fuse(model.encode(batch)))
    assert torch.allclose(losses["classify"], F.cross_entropy(logits[4:], batch["label"][4:]))
    batch["label"][:] = -1
    assert objective(views_of(model, batch)).losses["classify"].item() == 0


def test_distillation_agrees_with_open_clip_but_for_the_teachers_entropy(model):
    from open_clip.loss import DistillClipLoss

    objective = Distill(model.shape(teacher=VECTORS), embedding=0.0, temperature=0.1)
    student, teacher = [[F.normalize(torch.randn(6, 5), dim=-1) for _ in range(2)] for _ in range(2)]
    for tensor in student:
        tensor.requires_grad_()
    _, theirs = DistillClipLoss()(*student, torch.tensor(10.0), *teacher, torch.tensor(10.0))
    ours = (
        objective._divergence(student[0], teacher[0], student[1], teacher[1])
        + objective._divergence(student[1], teacher[1], student[0], teacher[0])
    ) / 2
    logits = 10 * teacher[0] @ teacher[1].T
    entropy = sum(-(each.softmax(-1) * each.log_softmax(-1)).sum(-1).mean() for each in (logits, logits.T)) / 2
    torch.testing.assert_close(ours + entropy, theirs, rtol=0, atol=1e-6)
    grads = [torch.autograd.grad(loss, student) for loss in (ours, theirs)]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-6)


def test_a_student_that_is_its_teacher_has_nothing_to_learn(model):
    objective = Distill(model.shape(teacher=VECTORS))
    batch = batch_of()
    losses = objective(views_of(model, batch, lambda b: said(objective.embed(model.encode(b))))).losses
    assert losses["distill_embedding"].item() == pytest.approx(0, abs=1e-6)
    assert losses["distill_logits"].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "untaught"),
    [
        (lambda s: Contrastive(s), {"fusion"}),
        (lambda s: Matching(s), set()),
        (lambda s: Masked(s), {"fusion", "encoders.image.mix"}),
        (lambda s: Classify(s), set()),
        (lambda s: Distill(s), {"fusion"}),
        (lambda s: SigLip(s), {"fusion"}),
        (lambda s: Triplet(s), {"fusion"}),
        (lambda s: Margin(s), {"fusion"}),
        (lambda s: SupCon(s), {"fusion"}),
        (lambda s: Multilabel(s), set()),
        (lambda s: Regress(s), set()),
        (lambda s: FixMatch(s), set()),
    ],
    ids=[
        *("contrastive", "matching", "masked", "classify", "distill", "siglip", "triplet", "margin", "supcon"),
        *("multilabel", "regress", "fixmatch"),
    ],
)
def test_every_part_that_an_objective_uses_gets_a_gradient(model, make, untaught):
    objective = make(model.shape(num_classes=3, teacher=VECTORS))
    teach = lambda b: said({name: unit(8, 3)[:, :5] for name in ("image", "text")})  # noqa: E731
    views = views_of(model, batch_of(), teach)
    sum(objective(views).losses.values()).backward()
    for name, parameter in [*model.named_parameters(), *objective.named_parameters()]:
        if not any(name.startswith(part) for part in untaught):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
