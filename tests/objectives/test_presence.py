"""Rows that lack a modality: every objective learns what it would learn without them, and of no such row nothing."""

from collections import defaultdict
from copy import deepcopy
from functools import partial

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of, sounds_of, tiny_audio, views_of

from mmexp.fusion.concat import ConcatFusion
from mmexp.fusion.xattn import CrossAttentionFusion
from mmexp.model import Model
from mmexp.objectives.autoencoder import Autoencoder
from mmexp.objectives.bag_of_words import BagOfWords
from mmexp.objectives.caption import Caption
from mmexp.objectives.classify import Classify
from mmexp.objectives.contrastive import Contrastive
from mmexp.objectives.cross_masked import CrossMasked
from mmexp.objectives.distill import Distill
from mmexp.objectives.distill_attention import DistillAttention
from mmexp.objectives.distill_classes import DistillClasses
from mmexp.objectives.distill_features import DistillFeatures
from mmexp.objectives.distill_relations import DistillRelations
from mmexp.objectives.fixmatch import FixMatch
from mmexp.objectives.mae import Mae
from mmexp.objectives.margin import Margin
from mmexp.objectives.masked import Masked
from mmexp.objectives.masked_audio import MaskedAudio
from mmexp.objectives.matching import Matching, _Candidates, hard_negatives
from mmexp.objectives.multilabel import Multilabel
from mmexp.objectives.prefix_lm import PrefixLM
from mmexp.objectives.prompted import Prompted
from mmexp.objectives.regress import Regress
from mmexp.objectives.siglip import SigLip
from mmexp.objectives.supcon import SupCon
from mmexp.objectives.triplet import Triplet
from mmexp.shapes import Supervision, TeacherShape
from mmexp.tasks.views import StepViews

WIDTHS = {f"{kind}/{name}": 5 for kind in ("vectors", "pooled") for name in ("image", "text")}
SHAPE = {
    "num_classes": 3,
    "supervision": Supervision(classes=("red", "green", "blue"), counts=(3, 3, 2), mean=5.0, deviation=2.0),
    "teacher": TeacherShape(WIDTHS, {"image": (2, 2)}),
}
ALIGNING = {"contrastive": Contrastive, "siglip": SigLip, "triplet": Triplet, "margin": Margin, "supcon": SupCon}
PAIRS = {
    **ALIGNING,
    "matching": Matching,
    "bag_of_words": BagOfWords,
    "cross_masked": CrossMasked,
    "caption": partial(Caption, dim=12),
    "prefix_lm": partial(PrefixLM, dim=12),
    "distill": partial(Distill, embedding=0.0, interactive=1.0),
    "autoencoder": partial(Autoencoder, source="image", targets=["text"]),
}
OF_IMAGES = {
    "classify": partial(Classify, source="image"),
    "multilabel": partial(Multilabel, source="image"),
    "regress": partial(Regress, source="image"),
    "fixmatch": partial(FixMatch, source="image", threshold=0.3),
    "distill_classes": partial(DistillClasses, source="image", hard=0.5),
    "mae": partial(Mae, dim=12),
    "mae_adaptively": partial(Mae, dim=12, adaptive=True),
    "masked": partial(Masked, words=0.0),
    "distill_attention": DistillAttention,
    "autoencoder": partial(Autoencoder, source="image", targets=["image"]),
    "distill_captions": partial(Caption, dim=12, words="teacher.captions"),
}
OF_TEXTS = {"masked": partial(Masked, patches=0.0), "classify": partial(Classify, source="text")}


@pytest.fixture
def model(request):
    torch.manual_seed(0)
    dims = {"image": 16, "text": 12}
    # Predicts from tokens, which the other fusion does not keep.
    keeps = getattr(request.node, "callspec", None) and request.node.callspec.params.get("name") == "cross_masked"
    fusion = CrossAttentionFusion(dims, dim=8, heads=2) if keeps else ConcatFusion(dims, dim=8, hidden=8)
    return Model({"image": TinyImage(), "text": TinyText()}, fusion)


def rows_of(part, rows):
    return {name: rows_of(value, rows) for name, value in part.items()} if isinstance(part, dict) else part[rows]


def lacking(**rows: list[int]) -> dict:
    """Return eight rows, some of which lack a modality."""
    batch = batch_of()
    batch["concept"], batch["label"][0] = torch.tensor([0, 1, 2, 2, 0, 3, 4, 4]), -1
    batch["present"] = {name: ~torch.isin(torch.arange(8), torch.tensor(gone)) for name, gone in rows.items()}
    return batch


def taught(batch):
    """Return what a teacher says of the rows of a batch, whichever of them it holds."""
    generator, index = torch.Generator().manual_seed(7), batch["index"]
    said = {name: torch.nn.functional.normalize(torch.randn(8, 5, generator=generator), dim=-1) for name in WIDTHS}
    said |= {"attention/image": torch.rand(8, 4, generator=generator), "logits": torch.randn(8, 3, generator=generator)}
    captions = TinyText().prepare(["a", "bc", "d", "e", "fg", "hi", "j", "klm"])
    return {name: t[index] for name, t in {**said, **{f"captions/{n}": t for n, t in captions.items()}}.items()}


def losses_and_gradients(objective, model, batch):
    losses = objective(views_of(model, batch, teach=taught)).losses
    weights = [*model.parameters(), *objective.parameters()]
    return losses, torch.autograd.grad(sum(losses.values()), weights, allow_unused=True, materialize_grads=True)


def same_as_without(objective, model, batch, rows):
    """Check that loss and gradients are those of the batch of `rows` alone."""
    kept = rows_of({name: part for name, part in batch.items() if name != "present"}, rows)
    again = deepcopy(objective)  # one that remembers losses would not start out as it did
    here, gradients = losses_and_gradients(objective, model, batch)
    there, expected = losses_and_gradients(again, model, kept)
    assert here.keys() == there.keys()
    for name in here:
        assert here[name].item() == pytest.approx(there[name].item(), rel=1e-5), name
        assert here[name].item() > 0
    for own, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_are_of_rows_that_have_both(model, name):
    batch = lacking(image=[1], text=[2, 5])
    same_as_without(PAIRS[name](model.shape(**SHAPE)), model, batch, torch.tensor([0, 3, 4, 6, 7]))


@pytest.mark.parametrize("name", OF_IMAGES)
def test_what_is_learned_of_pictures_is_of_rows_with_one(model, name):
    batch = lacking(image=[1, 4], text=[5])
    same_as_without(OF_IMAGES[name](model.shape(**SHAPE)), model, batch, torch.tensor([0, 2, 3, 5, 6, 7]))


@pytest.mark.parametrize("name", OF_TEXTS)
def test_what_is_learned_of_texts_is_of_rows_with_one(model, name):
    batch = lacking(image=[1], text=[2, 5])
    same_as_without(OF_TEXTS[name](model.shape(**SHAPE)), model, batch, torch.tensor([0, 1, 3, 4, 6, 7]))


def test_sounds_and_texts_before_class_names(model):
    hearing = Model({"audio": tiny_audio()}, ConcatFusion({"audio": 12}, dim=8, hidden=8))
    batch = {**lacking(audio=[0, 6]), "audio": sounds_of()}
    same_as_without(MaskedAudio(hearing.shape()), hearing, batch, torch.tensor([1, 2, 3, 4, 5, 7]))
    model.encoders["text"].word_dim = 12
    shape = model.shape(**SHAPE)
    same_as_without(Prompted(shape, context_length=0), model, lacking(image=[1, 4]), torch.tensor([0, 2, 3, 5, 6, 7]))


@pytest.mark.parametrize("kind", [DistillFeatures, partial(Distill, logits=0.0), DistillRelations])
def test_each_modality_is_distilled_on_the_rows_that_have_it(model, kind):
    objective, batch = kind(model.shape(**SHAPE)), lacking(image=[1, 4], text=[5])

    def alone(name, rows):
        names = {"image", "text"} - {name}
        part = {key: value for key, value in batch.items() if key not in {*names, "present"}}
        return objective(views_of(model, rows_of(part, torch.tensor(rows)), teach=taught)).losses

    image, text = alone("image", [0, 2, 3, 5, 6, 7]), alone("text", [0, 1, 2, 3, 4, 6, 7])
    for name, loss in objective(views_of(model, batch, teach=taught)).losses.items():
        assert loss.item() == pytest.approx((image[name] + text[name]).item() / 2, rel=1e-5)


@pytest.mark.parametrize("kind", [Classify, Multilabel, Regress])
def test_the_fused_output_answers_for_every_row(model, kind):
    objective, batch = kind(model.shape(**SHAPE)), lacking(image=[1], text=[2, 5])
    whole = {name: part for name, part in batch.items() if name != "present"}
    with torch.no_grad():
        fused = model.fuse(model.encode(batch))
    views = views_of(model, whole)
    views._fused = fused  # a batch whose fusion is that of what is there
    (own,), (expected,) = (objective(v).losses.values() for v in (views_of(model, batch), views))
    assert own.item() == pytest.approx(expected.item())


@pytest.mark.parametrize(("name", "kind"), {**PAIRS, **OF_IMAGES, "relations": DistillRelations}.items())
def test_a_step_without_any_such_row_teaches_nothing(model, name, kind):
    objective = kind(model.shape(**SHAPE))
    batch = lacking(image=list(range(8)), **({"text": list(range(8))} if name == "relations" else {}))
    losses = objective(views_of(model, batch, teach=taught)).losses
    assert losses and all(loss.item() == 0 for loss in losses.values())
    # One with heads goes back through them, so that a step of it alone does.
    for weight in objective.parameters():
        (gradient,) = torch.autograd.grad(sum(losses.values()), weight, retain_graph=True, materialize_grads=True)
        assert (gradient == 0).all()
    with torch.no_grad():
        measured = objective.eval()(views_of(model, batch, teach=taught))
    assert measured.losses.keys() == losses.keys()
    own = {n: v for n, v in measured.metrics.items() if not n.startswith(("temperature", "siglip"))}
    assert all(value.isnan() for value in [*measured.losses.values(), *own.values()])


def test_with_all_there_nothing_is_another(model):
    batch = lacking(image=[], text=[])
    plain = {name: part for name, part in batch.items() if name != "present"}
    for kind in ({**PAIRS, "cross_masked": Matching} | OF_IMAGES).values():
        objective = kind(model.shape(**SHAPE))
        # One that remembers losses would not start out as it did.
        here, there = (deepcopy(objective)(views_of(model, b, teach=taught)).losses for b in (batch, plain))
        assert {n: v.item() for n, v in here.items()} == pytest.approx({n: v.item() for n, v in there.items()})


@pytest.mark.parametrize("name", [*ALIGNING, "distill"])
@pytest.mark.parametrize("image", [[1, 6], [0, 1, 2, 3]])
def test_two_processes_learn_what_one_learns(model, name, image):
    """The second time the first process has no pair at all, and still takes part in all that is gathered."""
    batch, objective = lacking(image=image, text=[5]), PAIRS[name](model.shape(**SHAPE))
    weights = [*model.parameters(), *objective.parameters()]
    whole = sum(objective(views_of(model, batch, teach=taught)).losses.values())
    halves = [rows_of(batch, slice(0, 4)), rows_of(batch, slice(4, 8))]
    given = defaultdict(list)
    for half in halves:
        put = iter(range(99))
        views = StepViews(model, half, 0, 0, lambda t, put=put: given[next(put)].append(t) or t, taught)
        objective(views)
    assert all(len(parts) == 2 for parts in given.values())
    losses = []
    for half in halves:
        taken = iter(given.values())
        views = StepViews(model, half, 0, 0, lambda t, taken=taken: torch.cat(next(taken)), taught)
        losses.append(sum(objective(views).losses.values()))
    shared = sum(losses) / 2
    assert shared.item() == pytest.approx(whole.item(), rel=1e-5)
    found, expected = (
        torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True) for loss in (shared, whole)
    )
    for own, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-6)


def test_a_false_pair_is_made_of_what_is_there():
    torch.manual_seed(0)
    encoders = {"audio": TinyText(8), "image": TinyImage(), "text": TinyText()}
    dims = {name: encoder.dim for name, encoder in encoders.items()}
    model = Model(encoders, ConcatFusion(dims, dim=8, hidden=8))
    batch = lacking(audio=[0, 1, 2, 3, 4], image=[3])
    batch["concept"], batch["audio"] = torch.arange(8), batch["text"]
    views = views_of(model, batch)
    rows = Matching(model.shape())._rows(_Candidates(views), views)
    changed = {name: (order != torch.arange(8)) for name, order in rows.items()}
    # Row 3 has a text alone, and is left out before.
    assert (sum(c.long() for c in changed.values())[[0, 1, 2, 4, 5, 6, 7]] == 1).all()
    for name, order in rows.items():
        there = batch["present"].get(name, torch.ones(8, dtype=torch.bool))
        assert there[order[changed[name]]].all() and there[changed[name]].all()
    pooled, among = torch.randn(6, 4), torch.tensor([True, True, True, False, False, True])
    drawn = hard_negatives(pooled, pooled, torch.eye(6, dtype=torch.bool), 0.1, torch.rand(6), among)
    assert among[drawn].all()
