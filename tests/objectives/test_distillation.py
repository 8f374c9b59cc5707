"""What each kind of distillation computes, against formulas written out or other libraries; and what it teaches."""

from itertools import permutations

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of, sounds_of, tiny_audio, views_of
from torch.nn import functional as F

from mmexp.fusion.concat import ConcatFusion
from mmexp.model import Model
from mmexp.objectives.caption import Caption
from mmexp.objectives.classify import Classify
from mmexp.objectives.contrastive import Contrastive
from mmexp.objectives.distill import Distill
from mmexp.objectives.distill_attention import DistillAttention
from mmexp.objectives.distill_classes import DistillClasses
from mmexp.objectives.distill_features import DistillFeatures, squared_distance
from mmexp.objectives.distill_relations import (
    DistillRelations,
    angles_apart,
    distances_apart,
    similarities_apart,
)
from mmexp.shapes import TeacherShape
from mmexp.tasks.distill import retold
from mmexp.teacher import Teacher

KINDS = ("attention", "captions", "logits", "pooled", "vectors")


def built(image: int, text: int, seed: int = 0, size: int = 8) -> Model:
    torch.manual_seed(seed)
    encoders = {"image": TinyImage(image, size), "text": TinyText(text)}
    return Model(encoders, ConcatFusion({"image": image, "text": text}, dim=8, hidden=8))


@pytest.fixture
def teacher() -> Teacher:
    model = built(20, 18, seed=1)
    shape = model.shape(num_classes=3)
    heads = {
        "contrastive": Contrastive(shape, embed_dim=5),
        "classify": Classify(shape),
        "caption": Caption(shape, dim=12),
    }
    return Teacher(model, heads, KINDS).eval().requires_grad_(False)


def agree(one, other, *inputs, rtol=1e-5, atol=1e-6):
    """Two losses are equal, and so are their gradients."""
    torch.testing.assert_close(one, other, rtol=rtol, atol=atol)
    grads = [torch.autograd.grad(loss, inputs, retain_graph=True) for loss in (one, other)]
    for ours, theirs in zip(*grads, strict=True):
        assert theirs.abs().sum() > 0
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def rows(count: int, dim: int, seed: int) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def huber(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x.abs() <= 1, x.square() / 2, x.abs() - 0.5)


def test_a_teacher_says_what_it_is_asked_for_and_no_more(teacher):
    said, shape = teacher(batch_of()), teacher.shape()
    assert {name: tuple(t.shape) for name, t in said.items()} == {
        **{"attention/image": (8, 4), "captions/ids": (8, 8), "captions/mask": (8, 8), "logits": (8, 3)},
        **{"pooled/image": (8, 20), "pooled/text": (8, 18), "vectors/image": (8, 5), "vectors/text": (8, 5)},
    }
    assert shape.widths == {name: t.shape[1] for name, t in said.items()}
    assert shape.grids == {"image": (2, 2)} and shape.of("vectors") == {"image": 5, "text": 5}
    encoded = teacher.model.encode(batch_of())
    torch.testing.assert_close(said["vectors/text"], teacher.objectives["contrastive"].embed(encoded)["text"])
    torch.testing.assert_close(said["logits"], teacher.objectives["classify"].classify(teacher.model.fuse(encoded)))
    assert set(Teacher(teacher.model, teacher.objectives, ("logits",))(batch_of())) == {"logits"}


def test_a_teacher_tells_what_it_lacks(teacher):
    only = {"classify": teacher.objectives["classify"]}
    assert Teacher(teacher.model, only, ("logits", "attention", "pooled")).lacks() is None
    assert "no common space" in Teacher(teacher.model, only, ("vectors",)).lacks()
    assert "writes no texts" in Teacher(teacher.model, only, ("captions",)).lacks()
    blind = Model({"text": TinyText()}, teacher.model.fusion)
    assert "grid" in Teacher(blind, only, ("attention",)).lacks()


def test_the_interactive_term_is_cross_entropy_against_the_teachers_vectors(teacher):
    model, batch = built(16, 12), batch_of()
    objective = Distill(model.shape(teacher=teacher.shape()), embedding=0, logits=0, interactive=1, temperature=0.1)
    ours = objective(views_of(model, batch, teacher)).losses["distill_interactive"]
    said, own = teacher(batch), objective.embed(model.encode(batch))
    right = torch.arange(8)
    theirs = (
        F.cross_entropy(own["image"] @ said["vectors/text"].T / 0.1, right)
        + F.cross_entropy(own["text"] @ said["vectors/image"].T / 0.1, right)
    ) / 2
    agree(ours, theirs, *objective.parameters(), *model.encoders.parameters())


def test_softened_classes_are_hintons_and_hard_ones_are_the_labels(teacher):
    model, batch = built(16, 12), batch_of()
    batch["label"][:3] = -1
    objective = DistillClasses(model.shape(3, teacher.shape()), hard=0.25, temperature=3.0)
    losses = objective(views_of(model, batch, teacher)).losses
    logits, said = objective.classify(model.fuse(model.encode(batch))), teacher(batch)["logits"]
    p, q = (said / 3).softmax(-1), (logits / 3).softmax(-1)
    soft = 0.75 * 9 * (p * (p / q).log()).sum(-1).mean()
    agree(losses["distill_classes"], soft, *objective.parameters())
    hard = 0.25 * F.cross_entropy(logits[3:], batch["label"][3:])
    agree(losses["distill_classes_hard"], hard, *objective.parameters())
    alone = DistillClasses(model.shape(3, teacher.shape()), hard=0.0)
    assert set(alone(views_of(model, batch, teacher)).losses) == {"distill_classes"}


def test_a_high_temperature_matches_logits():
    """Hinton et al., section 2.1: with centred logits the gradient tends to that of half the squared distance over C."""
    model = built(16, 12)
    objective = DistillClasses(model.shape(3), temperature=1e4)
    student, teacher = rows(6, 3, 0).double().requires_grad_(), rows(6, 3, 1).double()
    teacher = teacher - teacher.mean(-1, keepdim=True)
    centred = student - student.mean(-1, keepdim=True)
    ours = torch.autograd.grad(objective.divergence(student, teacher), student)[0]
    theirs = torch.autograd.grad((centred - teacher).square().sum(-1).mean() / (2 * 3), student)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_features_are_compared_behind_the_projector(teacher):
    model, batch = built(16, 12), batch_of()
    objective = DistillFeatures(model.shape(teacher=teacher.shape()))
    ours = objective(views_of(model, batch, teacher)).losses["distill_features"]
    said, encoded, apart = teacher(batch), model.encode(batch), []
    for name in ("image", "text"):
        layer = objective.projectors[name][0]
        one = encoded[name].pooled @ layer.weight.T + layer.bias
        other = said[f"pooled/{name}"]
        apart.append((1 - (one * other).sum(-1) / one.norm(dim=-1) / other.norm(dim=-1)).mean())
    agree(ours, sum(apart) / 2, *objective.parameters())


def test_squared_distance_is_to_the_standardised_teacher():
    own, teacher = rows(6, 5, 0).requires_grad_(), 7 + 3 * rows(6, 5, 1)
    standard = (teacher - teacher.mean(-1, keepdim=True)) / teacher.std(-1, correction=0, keepdim=True)
    agree(squared_distance(own, teacher), (own - standard).square().mean(), own)
    torch.testing.assert_close(squared_distance(own, teacher), squared_distance(own, 100 * teacher - 5))


def test_distances_are_those_of_the_paper():
    own, teacher = rows(6, 5, 0).requires_grad_(), rows(6, 4, 1)

    def relative(vectors):
        pairs = list(permutations(range(6), 2))
        apart = torch.stack([(vectors[i] - vectors[j]).norm() for i, j in pairs])
        return apart / apart.mean()

    agree(distances_apart(own, teacher), huber(relative(own) - relative(teacher)).mean(), own)


def test_angles_are_those_of_the_paper():
    own, teacher = rows(5, 5, 0).requires_grad_(), rows(5, 4, 1)

    def cosine(v, i, j, k):
        one, other = v[i] - v[j], v[k] - v[j]
        return one @ other / (one.norm() * other.norm())

    triples = list(permutations(range(5), 3))
    theirs = torch.stack([huber(cosine(own, *t) - cosine(teacher, *t)) for t in triples]).mean()
    agree(angles_apart(own, teacher), theirs, own)


def test_similarities_are_those_of_the_paper():
    own, teacher = rows(5, 5, 0).requires_grad_(), rows(5, 4, 1)

    def products(vectors):
        return torch.stack([row / row.square().sum().sqrt() for row in vectors @ vectors.T])

    theirs = (products(teacher) - products(own)).square().sum() / 25
    agree(similarities_apart(own, teacher), theirs, own)


@pytest.mark.parametrize("apart", [distances_apart, angles_apart, similarities_apart])
def test_relations_do_not_change_with_rotation_and_scale(apart):
    own = rows(6, 4, 0).requires_grad_()
    turned = 3 * own.detach() @ torch.linalg.qr(rows(4, 4, 2))[0]
    loss = apart(own, turned)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(torch.autograd.grad(loss, own)[0]).all()


@pytest.mark.parametrize("apart", [distances_apart, angles_apart])
def test_relations_stand_rows_that_are_equal_and_a_row_alone(apart):
    own = rows(6, 4, 0)
    own[3] = own[1]
    own.requires_grad_()
    assert torch.isfinite(torch.autograd.grad(apart(own, rows(6, 4, 1)), own)[0]).all()
    same = torch.ones(4, 3, requires_grad=True)
    assert torch.isfinite(torch.autograd.grad(apart(same, rows(4, 3, 1)), same)[0]).all()


def test_attention_is_compared_place_by_place(teacher):
    model, batch = built(16, 12), batch_of()
    objective = DistillAttention(model.shape(teacher=teacher.shape()))
    ours = objective(views_of(model, batch, teacher)).losses["distill_attention"]

    def map_of(tokens):
        energy = tokens.square().sum(-1)
        return energy / energy.norm(dim=-1, keepdim=True)

    theirs = teacher.model.encode(batch)["image"].tokens
    expected = (map_of(model.encode(batch)["image"].tokens) - map_of(theirs)).norm(dim=-1).square().mean()
    agree(ours, expected, model.encoders["image"].patch.weight)


def test_attention_of_another_grid_is_interpolated_the_right_way_round():
    model = built(16, 12)
    objective = DistillAttention(model.shape(teacher=TeacherShape({}, {"image": (2, 4)})))
    wide = torch.tensor([[1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]])
    assert objective.apart(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), wide, "image").item() == pytest.approx(0, abs=1e-6)
    assert objective.apart(torch.tensor([[1.0, 3.0, 2.0, 4.0]]), wide, "image").item() > 0.01


def test_attention_of_sounds():
    encoders, batch = {"audio": tiny_audio()}, {**batch_of(), "audio": sounds_of()}
    model = Model(encoders, ConcatFusion({"audio": 12}, dim=8, hidden=8))
    teaching = Teacher(Model({"audio": tiny_audio()}, model.fusion), {}, ("attention",))
    objective = DistillAttention(model.shape(teacher=teaching.shape()))
    assert objective(views_of(model, batch, teaching)).losses["distill_attention"] > 0
    own = Teacher(model, {}, ("attention",))
    assert objective(views_of(model, batch, own)).losses["distill_attention"].item() == pytest.approx(0, abs=1e-6)


def test_captions_of_a_teacher_are_learned_as_if_they_were_the_datas(teacher):
    model, batch = built(16, 12), batch_of()
    shape = model.shape(teacher=teacher.shape())
    torch.manual_seed(3)
    taught = Caption(shape, dim=12, words="teacher.captions")
    torch.manual_seed(3)
    plain = Caption(shape, dim=12)
    said = retold(teacher(batch), teacher, model)
    ours = taught(views_of(model, batch, lambda b: said)).losses["distill_captions"]
    texts = teacher.decode(teacher(batch)["captions/ids"])
    swapped = {**batch, "text": TinyText().prepare(texts)}
    theirs = plain(views_of(model, swapped)).losses["caption"]
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    assert ours.item() != pytest.approx(plain(views_of(model, batch)).losses["caption"].item(), rel=1e-3)


OBJECTIVES = {
    "distill": (lambda s: Distill(s, interactive=1.0), {"fusion"}),
    "distill_classes": (DistillClasses, set()),
    "distill_features": (lambda s: DistillFeatures(s, hidden=6), {"fusion"}),
    "distill_relations": (lambda s: DistillRelations(s, similarity=1.0), {"fusion"}),
    "distill_attention": (DistillAttention, {"fusion", "encoders.text", "encoders.image.mix"}),
    "distill_captions": (
        lambda s: Caption(s, dim=12, words="teacher.captions"),
        {"fusion", "encoders.text", "encoders.image.mix"},
    ),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_part_that_an_objective_uses_gets_a_gradient(teacher, name):
    make, untaught = OBJECTIVES[name]
    model = built(16, 12)
    objective = make(model.shape(3, teacher.shape()))
    before = {key: tensor.clone() for key, tensor in teacher.state_dict().items()}
    views = views_of(model, batch_of(), lambda b: retold(teacher(b), teacher, model))
    sum(objective(views).losses.values()).backward()
    for key, parameter in [*model.named_parameters(), *objective.named_parameters()]:
        if not any(key.startswith(part) for part in untaught):
            assert parameter.grad is not None, key
            assert parameter.grad.abs().sum() > 0, key
    assert all(torch.equal(tensor, before[key]) for key, tensor in teacher.state_dict().items())


def test_gathered_relations_have_the_gradient_of_one_process():
    """Two processes, each with half of the rows with gradient: the sum of their gradients is twice the whole's."""
    own, teacher = rows(6, 4, 0), rows(6, 5, 1)
    whole = own.clone().requires_grad_()
    expected = torch.autograd.grad(distances_apart(whole, teacher) + angles_apart(whole, teacher), whole)[0]
    model = built(16, 12)
    objective = DistillRelations(model.shape(), angle=1.0)
    halves = own.clone().requires_grad_()

    class Views:
        def __init__(self, part):
            self.part, self.batch = part, {}

        def encoded(self):
            from mmexp.types import Encoded

            mine = halves[self.part]
            return {"image": Encoded(mine[:, None], mine, torch.ones(3, 1, dtype=torch.bool))}

        def teacher(self, kind):
            return {"image": teacher[self.part]}

        def gather(self, tensor):
            return halves if tensor.shape[1] == 4 else teacher

    losses = [sum(objective(Views(part)).losses.values()) for part in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(torch.autograd.grad(sum(losses), halves)[0], 2 * expected)
