"""Which pairs of a batch are positive: equal concepts, the same picture or the same text, and no closure over further rows."""

from collections import defaultdict

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of, views_of

from mmexp.augmentations.mixup import Mixup
from mmexp.augmentations.swap import Swap
from mmexp.draws import RowDraws
from mmexp.fusion.concat import ConcatFusion
from mmexp.model import Model
from mmexp.objectives import heads, tiles
from mmexp.objectives.contrastive import Contrastive, info_nce
from mmexp.objectives.distill import Distill
from mmexp.objectives.margin import Margin, margin_loss
from mmexp.objectives.matching import Matching, _Candidates, related_rows
from mmexp.objectives.shown import related_items
from mmexp.objectives.siglip import SigLip, sigmoid_loss
from mmexp.objectives.supcon import SupCon
from mmexp.objectives.triplet import Triplet, triplet_loss
from mmexp.shapes import TeacherShape
from mmexp.tasks.views import StepViews

# Rows 0 and 1 show one picture with two texts, rows 1 and 2 and 5 have one text: 0 and 2 are not related.
CONCEPT = torch.tensor([0, 1, 2, 3, 4, 5, 5, 6])
ITEMS = {"image": torch.tensor([3, 3, 1, 2, 7, 4, 5, 6]), "text": torch.tensor([9, 4, 4, 5, 6, 4, 8, 5])}
FUNCTIONS = {
    "contrastive": (Contrastive, lambda q, k, p: info_nce(q, k, 1 / 0.15, p)),
    "siglip": (SigLip, lambda q, k, p: sigmoid_loss(q, k, torch.tensor(10.0), torch.tensor(-10.0), p)),
    "triplet": (Triplet, lambda q, k, p: triplet_loss(q, k, p, 0.2, "semi_hard")),
    "margin": (Margin, lambda q, k, p: margin_loss(q, k, p, 1.0)),
}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model({"image": TinyImage(), "text": TinyText()}, ConcatFusion({"image": 16, "text": 12}, dim=8, hidden=8))


def batch(concept=CONCEPT, **items):
    return {**batch_of(), "concept": concept, "items": {**ITEMS, **items}}


def by_hand(batch, pair=("image", "text")):
    """Return which rows are positives of each other, pair by pair."""
    found = torch.zeros(8, 8, dtype=torch.bool)
    for i in range(8):
        for j in range(8):
            same = [batch["items"][m][i] == batch["items"][m][j] and batch["items"][m][i] >= 0 for m in pair]
            found[i, j] = batch["concept"][i] == batch["concept"][j] or any(same)
    return found


def test_positives_are_not_continued_through_further_rows():
    found = by_hand(batch())
    assert found[0, 1] and found[1, 2] and not found[0, 2]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("tiled", [False, True])
def test_pairs_of_the_same_picture_or_text_are_positive(model, name, tiled, monkeypatch):
    kind, function = FUNCTIONS[name]
    if tiled:
        monkeypatch.setattr(heads, "LARGE", 1)
        monkeypatch.setattr(tiles, "TILE", 3)
    objective, own = kind(model.shape()), batch()
    vectors, positive = objective.embed(model.encode(own)), by_hand(own)
    both = function(vectors["image"], vectors["text"], positive) + function(vectors["text"], vectors["image"], positive)
    (loss,) = objective(views_of(model, own)).losses.values()
    assert loss.item() == pytest.approx(both.item() / 2, rel=1e-5)
    # Concepts alone would make another loss of it.
    without = {name: part for name, part in own.items() if name != "items"}
    assert sum(objective(views_of(model, without)).losses.values()).item() != pytest.approx(loss.item(), rel=1e-3)


@pytest.mark.parametrize("name", [*FUNCTIONS, "supcon"])
def test_two_processes_find_the_same_positives_as_one(model, name):
    objective = SupCon(model.shape(), same="concept") if name == "supcon" else FUNCTIONS[name][0](model.shape())
    # In each half rows of different concepts share a picture and a text, so that both compare items.
    own = batch(image=torch.tensor([3, 3, 1, 2, 7, 3, 7, 6]), text=torch.tensor([9, 4, 4, 5, 6, 4, 8, 6]))
    whole = sum(objective(views_of(model, own)).losses.values())
    halves = [rows_of(own, slice(0, 4)), rows_of(own, slice(4, 8))]
    given = defaultdict(list)
    for half in halves:
        put = iter(range(99))
        objective(StepViews(model, half, 0, 0, lambda t, put=put: given[next(put)].append(t) or t))
    losses = []
    for half in halves:
        taken = iter(given.values())
        views = StepViews(model, half, 0, 0, lambda t, taken=taken: torch.cat(next(taken)))
        losses.append(sum(objective(views).losses.values()))
    assert (sum(losses) / 2).item() == pytest.approx(whole.item(), rel=1e-5)


def rows_of(part, rows: slice):
    return {name: rows_of(value, rows) for name, value in part.items()} if isinstance(part, dict) else part[rows]


def test_supcon_by_concept_takes_the_same_item_for_a_positive(model):
    objective, own = SupCon(model.shape(), same="concept", temperature=0.2), batch()
    vectors, positive = objective.embed(model.encode(own)), by_hand(own).repeat(2, 2)
    among = ~torch.eye(16, dtype=torch.bool)
    both = torch.cat([vectors["image"], vectors["text"]])
    theirs = info_nce(both, both, 5.0, positive & among, among)
    assert objective(views_of(model, own)).losses["supcon"].item() == pytest.approx(theirs.item(), rel=1e-5)


def test_items_of_one_concept_cost_no_comparison(model):
    def asked(concept, **items):
        return related_items(views_of(model, batch(concept, **items)), ["image", "text"])

    assert asked(CONCEPT) == ["image", "text"]
    assert asked(torch.arange(8), image=torch.arange(8), text=torch.arange(8)) == []
    assert asked(torch.arange(8) // 2, image=torch.arange(8), text=torch.arange(8) // 2) == []
    assert asked(torch.arange(8), image=torch.arange(8), text=torch.full((8,), -1)) == []


def test_what_rows_lack_makes_no_positive(model):
    own = batch(image=torch.tensor([-1, -1, 1, 2, 3, 4, 5, 6]), text=torch.tensor([-1, 4, 4, -1, 6, 4, 8, 5]))
    # Of the two that share a text one concept differs, so that items are compared at all.
    assert torch.equal(related_rows(views_of(model, own)), by_hand(own))


@pytest.mark.parametrize("augmentation", [Swap(share=0.6), Mixup(alpha=1.0)])
@pytest.mark.parametrize("tiled", [False, True])
def test_mixed_and_swapped_rows_bring_their_items_along(model, augmentation, tiled, monkeypatch):
    if tiled:
        monkeypatch.setattr(heads, "LARGE", 1)
        monkeypatch.setattr(tiles, "TILE", 3)
    own = augmentation(batch(), RowDraws(0, 0, range(8)))
    # Of which row each part is, and by how much: rows of the batch stand for themselves.
    order = torch.arange(8)
    image, text = torch.eye(8), torch.eye(8)
    if isinstance(augmentation, Swap):
        chosen = torch.from_numpy(RowDraws(0, 0, range(8))("swap", 1)[:, 0] < 0.6).nonzero().squeeze(1)
        order[chosen] = chosen.roll(-1)
        text = torch.eye(8)[order]
    else:
        share = own["shown"]["image"]["share"][:, :1]
        image = share * torch.eye(8) + (1 - share) * torch.eye(8)[order.roll(-1)]
    agreement = image @ by_hand(batch()).float() @ text.T
    objective = Contrastive(model.shape())
    vectors = objective.embed(model.encode(own))
    both = info_nce(vectors["image"], vectors["text"], 1 / 0.15, agreement)
    both = both + info_nce(vectors["text"], vectors["image"], 1 / 0.15, agreement.T)
    assert objective(views_of(model, own)).losses["contrastive"].item() == pytest.approx(both.item() / 2, rel=1e-5)


def test_interactive_distillation_finds_the_same_positives(model):
    own = batch()
    vectors = {name: torch.nn.functional.normalize(torch.randn(8, 6), dim=1) for name in ("image", "text")}
    teacher = TeacherShape({f"vectors/{name}": 6 for name in vectors})
    objective = Distill(model.shape(teacher=teacher), embedding=0, logits=0, interactive=1.0)
    student, positive = objective.embed(model.encode(own)), by_hand(own)
    pairs = (("image", "text"), ("text", "image"))
    theirs = [info_nce(student[a], vectors[b], 20.0, positive) for a, b in pairs]
    views = views_of(model, own, lambda _: {f"vectors/{name}": one for name, one in vectors.items()})
    loss = objective(views).losses["distill_interactive"]
    assert loss.item() == pytest.approx(sum(theirs).item() / 2, rel=1e-5)


def test_matching_draws_no_negative_that_is_right(model):
    own, objective = batch(), Matching(model.shape())
    related = by_hand(own)
    for step in range(20):
        views = views_of(model, own, step=step)
        rows = objective._rows(_Candidates(views), views)
        for order in rows.values():
            changed = order != torch.arange(8)
            assert not related[torch.arange(8), order][changed].any()
    # Where all rows have one text, every pair is right.
    same = batch(torch.arange(8), text=torch.full((8,), 4))
    views = views_of(model, same)
    rows = objective._rows(_Candidates(views), views)
    assert all(torch.equal(order, torch.arange(8)) for order in rows.values())
