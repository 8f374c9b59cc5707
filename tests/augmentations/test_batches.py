"""Augmentations of the whole batch, and the losses of what they mix and swap."""

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of, views_of
from torch.nn import functional as F

from mmexp.augmentations.mixup import Mixup
from mmexp.augmentations.swap import Swap
from mmexp.draws import RowDraws
from mmexp.fusion.concat import ConcatFusion
from mmexp.model import Model
from mmexp.objectives.classify import Classify
from mmexp.objectives.contrastive import Contrastive, info_nce
from mmexp.objectives.matching import Matching
from mmexp.objectives.shown import agreement, belongs, shown

DRAWS = RowDraws(0, 0, range(8))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model({"image": TinyImage(), "text": TinyText()}, ConcatFusion({"image": 16, "text": 12}, dim=8, hidden=8))


def with_teacher() -> dict:
    batch = batch_of()
    return {**batch, "teacher": {"image": dict(batch["image"]), "text": dict(batch["text"])}}


def test_pictures_are_blended_by_their_shares_and_words_stay():
    batch = with_teacher()
    mixed = Mixup(alpha=1.0)(batch, DRAWS)
    own = mixed["shown"]["image"]["share"][:, 0]
    assert (own >= 0.5).all() and len(own.unique()) == 8
    pixels = batch["image"]["pixels"].float()
    blend = own.view(-1, 1, 1, 1) * pixels + (1 - own.view(-1, 1, 1, 1)) * pixels[[*range(1, 8), 0]]
    assert (mixed["image"]["pixels"].float() - blend).abs().max() <= 0.51
    assert torch.equal(mixed["teacher"]["image"]["pixels"], mixed["image"]["pixels"])
    assert mixed["text"] is batch["text"] and mixed["label"] is batch["label"]


def test_shares_follow_the_folded_beta_distribution():
    rows = RowDraws(0, 0, range(2000))
    share = Mixup(alpha=1.0)(batch_of(2000), rows)["shown"]["image"]["share"][:, 0]
    # Of a uniform number the larger part is uniform from a half to one.
    assert share.mean().item() == pytest.approx(0.75, abs=0.01)
    assert share.std().item() == pytest.approx(0.5 / 12**0.5, abs=0.01)


def test_swapped_texts_are_those_of_their_new_concept():
    batch = with_teacher()
    swapped = Swap(share=0.5)(batch, DRAWS)
    order = swapped["shown"]["text"]["concept"][:, 0]
    chosen = torch.from_numpy(DRAWS("swap", 1)[:, 0] < 0.5)
    assert torch.equal(order != torch.arange(8), chosen) and 1 < chosen.sum() < 8
    for part, own in ((swapped, batch), (swapped["teacher"], batch["teacher"])):
        assert torch.equal(part["text"]["ids"], own["text"]["ids"][order])
        assert torch.equal(part["image"]["pixels"], own["image"]["pixels"])
    assert torch.equal(batch["text"]["ids"], with_teacher()["text"]["ids"])


def test_one_modality_alone_is_left_as_it_is():
    batch = {name: value for name, value in batch_of().items() if name not in ("image", "text")}
    assert Mixup()(batch, DRAWS) == batch and Swap()(batch, DRAWS) == batch


def test_contrastive_of_mixed_pictures_is_the_loss_of_mixup(model):
    """Pictures against words: share * CE(own words) + (1 - share) * CE(the other's words), arXiv:1710.09412."""
    objective, batch = Contrastive(model.shape()), Mixup(alpha=1.0)(batch_of(), DRAWS)
    vectors = objective.embed(model.encode(batch))
    logits = objective.log_scale.exp() * vectors["image"] @ vectors["text"].T
    own, index = batch["shown"]["image"]["share"][:, 0], torch.arange(8)
    each = own * F.cross_entropy(logits, index, reduction="none")
    each = each + (1 - own) * F.cross_entropy(logits, index.roll(-1), reduction="none")
    # Words against pictures: each word by the shares of the two pictures that show it.
    weight = torch.diag(own) + torch.zeros(8, 8).scatter(1, index.roll(-1)[:, None], (1 - own)[:, None])
    back = F.cross_entropy(logits.T, weight.T / weight.T.sum(1, keepdim=True))
    theirs = (each.mean() + back) / 2
    ours = objective(views_of(model, batch)).losses["contrastive"]
    parameters = [*model.encoders.parameters(), *objective.parameters()]
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    for a, b in zip(torch.autograd.grad(ours, parameters), torch.autograd.grad(theirs, parameters), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_contrastive_of_swapped_texts_finds_each_in_its_new_row(model):
    objective = Contrastive(model.shape())
    plain = objective(views_of(model, batch_of())).losses["contrastive"]
    swapped = objective(views_of(model, Swap(share=0.7)(batch_of(), DRAWS))).losses["contrastive"]
    assert swapped.item() == pytest.approx(plain.item(), abs=1e-6)


def test_classification_of_mixed_pictures_is_the_loss_of_mixup(model):
    batch = Mixup(alpha=1.0)(batch_of(), DRAWS)
    own, label = batch["shown"]["image"]["share"][:, 0], batch["label"]
    for source, part in (("image", 1.0), ("fused", 0.5)):
        objective = Classify(model.shape(num_classes=3), source=source)
        encoded = model.encode(batch)
        logits = objective.classify(model.fuse(encoded) if source == "fused" else encoded["image"])
        other = part * (1 - own)
        theirs = (1 - other) * F.cross_entropy(logits, label, reduction="none")
        theirs = theirs + other * F.cross_entropy(logits, label.roll(-1), reduction="none")
        ours = objective(views_of(model, batch)).losses["classify"]
        assert ours.item() == pytest.approx(theirs.mean().item(), abs=1e-6)


def test_a_part_without_label_does_not_count(model):
    batch = batch_of()
    batch["label"][1] = -1
    batch = Mixup(alpha=1.0)(batch, DRAWS)
    objective = Classify(model.shape(num_classes=3), source="image")
    logits = objective.classify(model.encode(batch)["image"])
    label, share = batch["shown"]["image"]["label"], batch["shown"]["image"]["share"]
    pairs = [(row, k) for row in range(8) for k in range(2) if label[row, k] >= 0]
    losses = sum(share[row, k] * F.cross_entropy(logits[row], label[row, k]) for row, k in pairs)
    theirs = losses / sum(share[row, k] for row, k in pairs)
    assert objective(views_of(model, batch)).losses["classify"].item() == pytest.approx(theirs.item(), abs=1e-6)


def test_a_pair_belongs_together_by_the_share_that_its_words_are_about():
    mixed = Mixup(alpha=1.0)(batch_of(), DRAWS)
    share = mixed["shown"]["image"]["share"]
    assert torch.allclose(belongs({name: shown(mixed, name) for name in ("image", "text")}), share[:, 0])
    swapped = Swap(share=0.5)(mixed, DRAWS)
    text = swapped["shown"]["text"]["concept"][:, 0]
    row = torch.arange(8)
    expected = share[:, 0] * (text == row) + share[:, 1] * (text == (row + 1) % 8)
    assert torch.allclose(belongs({name: shown(swapped, name) for name in ("image", "text")}), expected)
    # Concepts of a batch may repeat: then a blend of two of its pictures is of that concept wholly.
    one = {"concept": torch.tensor([[4, 4]]), "share": torch.tensor([[0.6, 0.4]])}
    assert agreement(one, {"concept": torch.tensor([[4]]), "share": torch.ones(1, 1)}).item() == pytest.approx(1)


def test_matching_learns_that_swapped_pairs_are_false(model):
    objective = Matching(model.shape())
    torch.nn.init.zeros_(objective.head.weight)
    torch.nn.init.constant_(objective.head.bias, 2.0)

    def right(batch) -> float:
        """Return the mean target: of a constant logit z the loss is softplus(z) - z * target."""
        loss = objective(views_of(model, batch)).losses["matching"].item()
        return (F.softplus(torch.tensor(2.0)).item() - loss) / 2.0

    assert right(batch_of()) == pytest.approx(0.5, abs=1e-6)
    swapped = Swap(share=1.0)(batch_of(), DRAWS)
    assert right(swapped) < 0.3


def test_a_loss_of_weights_is_the_loss_of_several_positives():
    vectors = F.normalize(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    positive = torch.eye(4, dtype=torch.bool) | torch.eye(4, dtype=torch.bool).roll(1, 1)
    scale = torch.tensor(5.0)
    assert torch.allclose(info_nce(vectors, vectors, scale, positive), info_nce(vectors, vectors, scale, positive / 2))
