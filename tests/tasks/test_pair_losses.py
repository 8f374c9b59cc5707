"""Losses of an evaluation set are means over the rows that count in each, whatever the batch size."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of

from mmexp.fusion.concat import ConcatFusion
from mmexp.model import Model
from mmexp.objectives.classify import Classify
from mmexp.objectives.contrastive import Contrastive
from mmexp.objectives.multilabel import Multilabel
from mmexp.objectives.regress import Regress
from mmexp.objectives.supcon import SupCon
from mmexp.tasks.base import Task
from mmexp.tasks.evaluation import Gathered

ROWS = 64


def rows_of(part, rows):
    return {name: rows_of(value, rows) for name, value in part.items()} if isinstance(part, dict) else part[rows]


def sparse_rows():
    """Return 64 rows: the last 8 are labelled in every way, and half of the first 32 lack the picture."""
    batch = batch_of(ROWS)
    unlabelled = torch.arange(ROWS) < ROWS - 8
    batch["label"][unlabelled], batch["number"][unlabelled], batch["targets"][unlabelled] = -1, torch.nan, torch.nan
    batch["present"] = {"image": (torch.arange(ROWS) % 2 > 0) | (torch.arange(ROWS) > 31)}
    return batch


def evaluated(objective, batch_size: int) -> Gathered:
    torch.manual_seed(0)
    fusion = ConcatFusion({"image": 16, "text": 12}, dim=8, hidden=8)
    model = Model({"image": TinyImage(), "text": TinyText()}, fusion).eval()
    task = Task(model, {"head": objective(model.shape(3)).eval()}, {"head": 1.0}, torch.nn.Identity(), None, None)
    whole = SimpleNamespace(reduce=lambda tensor, **_: tensor)
    task._trainer = SimpleNamespace(world_size=1, testing=True, strategy=whole, precision_plugin=None)
    task.splits, task.samples = ["val"], {"val": [None] * ROWS}
    with torch.no_grad():
        for start in range(0, ROWS, batch_size):
            task.validation_step(rows_of(sparse_rows(), slice(start, start + batch_size)), 0)
    return task.gathered["val"]


@pytest.mark.parametrize("objective", [Classify, Regress, Multilabel])
def test_the_loss_of_few_labels_is_the_same_at_any_batch_size(objective):
    small, large = (evaluated(objective, size).metrics() for size in (8, ROWS))
    names = [name for name in large if name.startswith("loss")]
    assert len(names) == 2 and large["loss"] > 0.1
    assert {name: small[name] for name in names} == pytest.approx({name: large[name] for name in names}, rel=1e-5)


@pytest.mark.parametrize(("objective", "count"), [(Contrastive, 48), (partial(SupCon, same="label"), 8)])
def test_losses_of_pairs_weigh_by_the_rows_that_are_pairs(objective, count):
    gathered = evaluated(objective, 8)
    (name,) = (name for name in gathered.weights if name.startswith("loss_"))
    assert gathered.weights[name] == count
