"""Losses tile by tile are those of the whole matrix, gradients too."""

from collections import defaultdict
from functools import partial

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of, views_of

from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.objectives import heads, tiles
from mmexp.objectives.contrastive import Contrastive, info_nce
from mmexp.objectives.shown import agreement
from mmexp.objectives.siglip import SigLip, sigmoid_loss
from mmexp.objectives.similarity import unit
from mmexp.objectives.tiles import Right, tiled_info_nce, tiled_sigmoid_loss
from mmexp.tasks.views import StepViews


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    monkeypatch.setattr(tiles, "TILE", 8)


def vectors(rows: int, seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return unit(torch.randn(rows, 6)).requires_grad_()


def content(rows: int, concepts: int, mixed: bool, seed: int) -> dict:
    torch.manual_seed(seed)
    shape = (rows, 2) if mixed else (rows, 1)
    share = torch.rand(rows, 1)
    share = torch.cat([share, 1 - share], 1) if mixed else torch.ones(rows, 1)
    return {"concept": torch.randint(concepts, shape), "share": share}


def gradients(loss: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
    return [loss, *torch.autograd.grad(loss, inputs)]


def same(ours, theirs) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


# Concepts: each row's own but for chance, a few rows each, and some of the queries' that no key has.
@pytest.mark.parametrize("concepts", [10_000, 7, 60])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("both_ways", [False, True])
def test_info_nce(concepts, mixed, smoothing, both_ways):
    queries, keys = vectors(21, 0), vectors(21 if both_ways else 30, 1)
    scale = torch.tensor(30.0, requires_grad=True)
    right = Right(content(21, concepts, mixed, 2), content(len(keys), concepts, mixed, 3))
    if concepts == 10_000:
        right.key["concept"][:21] = right.query["concept"]
    whole = agreement(*whole_of(right))
    full = info_nce(queries, keys, scale, whole, label_smoothing=smoothing)
    if both_ways:
        full = (full + info_nce(keys, queries, scale, whole.T, label_smoothing=smoothing)) / 2
    tiled = tiled_info_nce(queries, keys, scale, right, smoothing, both_ways)
    same(gradients(tiled, queries, keys, scale), gradients(full, queries, keys, scale))


def test_queries_far_from_every_key_among_near_ones():
    near, far = torch.eye(2).repeat_interleave(10, 0).split(10)
    queries, keys = torch.cat([near, -near, far]).requires_grad_(), torch.cat([near, far, near]).requires_grad_()
    scale = torch.tensor(100.0, requires_grad=True)
    right = Right(content(30, 9, False, 2), content(30, 9, False, 3))
    whole = agreement(*whole_of(right))
    full = (info_nce(queries, keys, scale, whole) + info_nce(keys, queries, scale, whole.T)) / 2
    tiled = tiled_info_nce(queries, keys, scale, right, both_ways=True)
    same(gradients(tiled, queries, keys, scale), gradients(full, queries, keys, scale))


def whole_of(right: Right) -> tuple[dict, dict]:
    return {n: p[:, None] for n, p in right.query.items()}, {n: p[None] for n, p in right.key.items()}


@pytest.mark.parametrize("mixed", [False, True])
def test_the_sigmoid_loss(mixed):
    queries, keys = vectors(21, 0), vectors(30, 1)
    scale, bias = torch.tensor(10.0, requires_grad=True), torch.tensor(-3.0, requires_grad=True)
    right = Right(content(21, 9, mixed, 2), content(30, 9, mixed, 3), wholly=True)
    full = sigmoid_loss(queries, keys, scale, bias, agreement(*whole_of(right)) > 0)
    inputs = (queries, keys, scale, bias)
    same(gradients(tiled_sigmoid_loss(*inputs, right), *inputs), gradients(full, *inputs))


def test_what_comes_down_is_multiplied():
    queries, keys, scale, bias = vectors(9, 0), vectors(9, 1), torch.tensor(5.0), torch.tensor(-1.0)
    right = Right(content(9, 4, False, 2), content(9, 4, False, 3))
    for loss in (
        lambda: tiled_info_nce(queries, keys, scale, right),
        lambda: tiled_sigmoid_loss(queries, keys, scale, bias, right),
    ):
        (once,), (thrice,) = torch.autograd.grad(loss(), queries), torch.autograd.grad(3 * loss(), queries)
        torch.testing.assert_close(3 * once, thrice)


@pytest.mark.parametrize("kind", [partial(Contrastive, label_smoothing=0.1), SigLip], ids=["contrastive", "siglip"])
@pytest.mark.parametrize("lacking", [False, True])
def test_an_objective_learns_the_same_in_one_process_and_two(kind, lacking, monkeypatch):
    torch.manual_seed(0)
    model = Model({"image": TinyImage(), "text": TinyText()}, NoFusion({}))
    batch = batch_of()
    batch["concept"] = torch.tensor([0, 1, 2, 2, 0, 3, 4, 4])
    if lacking:
        batch["present"] = {"image": torch.tensor([1, 1, 0, 1, 1, 1, 0, 1]).bool()}
    objective = kind(model.shape(), embed_dim=8)
    learned = [*model.parameters(), *objective.parameters()]

    def found() -> list[torch.Tensor]:
        (loss,) = objective(views_of(model, batch)).losses.values()
        return gradients(loss, *learned)

    whole = found()
    monkeypatch.setattr(heads, "LARGE", 1)
    monkeypatch.setattr(tiles, "TILE", 3)
    monkeypatch.setattr(heads, "pairwise", None)
    same(found(), whole)
    two = sum(in_two_processes(model, objective, batch)) / 2
    same(gradients(two, *learned), whole)


def in_two_processes(model, objective, batch) -> list[torch.Tensor]:
    """Return each one's loss. A first pass notes what each gathers, in order; a second one hands out the whole."""
    halves = [rows_of(batch, slice(0, 4)), rows_of(batch, slice(4, 8))]
    given = defaultdict(list)
    for half in halves:
        put = iter(range(99))
        objective(StepViews(model, half, 0, 0, lambda t, put=put: given[next(put)].append(t) or t))
    losses = []
    for half in halves:
        taken = iter(given.values())
        views = StepViews(model, half, 0, 0, lambda t, taken=taken: torch.cat(next(taken)))
        losses += objective(views).losses.values()
    return losses


def rows_of(part, rows: slice):
    return {name: rows_of(value, rows) for name, value in part.items()} if isinstance(part, dict) else part[rows]
