"""Losses of an evaluation set are the same at any batch size: means over the rows, words or patches that count."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from stand_ins import TinyImage, TinyText, batch_of
from test_presence import SHAPE, rows_of

from mmexp.balance.fixed import Fixed
from mmexp.draws import RowGenerator
from mmexp.fusion.concat import ConcatFusion
from mmexp.model import Model
from mmexp.objectives.classify import Classify
from mmexp.objectives.mae import Mae
from mmexp.objectives.masked import Masked
from mmexp.objectives.multilabel import Multilabel
from mmexp.objectives.regress import Regress
from mmexp.tasks.base import Task


def labelled_in_part() -> dict:
    """Return eight rows, of which two have a label, three a number, and five a picture."""
    batch = batch_of()
    batch["label"][torch.tensor([0, 1, 2, 3, 5, 6])] = -1
    batch["number"][3:] = torch.nan
    batch["targets"][2:7, :2] = torch.nan
    batch["present"] = {"image": torch.tensor([True, True, False, True, False, True, True, False])}
    return batch


def validated(size: int) -> dict[str, float]:
    """Return the losses of the eight rows, validated in batches of `size`."""
    torch.manual_seed(0)
    model = Model({"image": TinyImage(), "text": TinyText()}, ConcatFusion({"image": 16, "text": 12}, dim=8, hidden=8))
    shape = model.shape(**SHAPE)
    objectives = {"classify": Classify(shape), "regress": Regress(shape, source="image"), "masked": Masked(shape)}
    objectives |= {"multilabel": Multilabel(shape), "mae": Mae(shape, dim=12)}
    weights = {"classify": 1.0, "regress": 0.5, "masked": 2.0, "multilabel": 1.0, "mae": 1.0}
    task = Task(model, objectives, weights, Fixed(), torch.optim.SGD, None)
    strategy = SingleDeviceStrategy(device="cpu")
    task._trainer = SimpleNamespace(world_size=1, testing=False, strategy=strategy, precision_plugin=None)
    task.splits, task.samples = ["val"], {"val": []}
    task.eval()
    with torch.no_grad():
        for rows in torch.arange(8).split(size):
            task.validation_step(rows_of(labelled_in_part(), rows), 0)
    found = {name: value for name, value in task.gathered["val"].metrics().items() if name.startswith("loss")}
    assert found["loss"] == pytest.approx(
        sum(weights.get(n.split("_")[1], 2.0) * v for n, v in found.items() if n != "loss")
    )
    return found


def test_losses_are_the_same_at_any_batch_size():
    whole = validated(8)
    assert whole.keys() >= {"loss_classify", "loss_regress", "loss_masked_words", "loss_mae", "loss_multilabel"}
    for size in (1, 3, 4):
        assert validated(size) == pytest.approx(whole, rel=1e-5)


def test_random_numbers_are_of_a_row_whichever_rows_are_beside_it():
    whole = RowGenerator(0, 5, torch.arange(8), "mask").rand(8, 10)
    part = RowGenerator(0, 5, torch.tensor([6, 2]), "mask").rand(2, 20)
    assert torch.equal(part[:, :10], whole[[6, 2]])
    assert whole.min() >= 0 and whole.max() < 1
    for other in (RowGenerator(0, 6, torch.arange(8), "mask"), RowGenerator(1, 5, torch.arange(8), "mask")):
        assert (other.rand(8, 10) != whole).all()
    generator = RowGenerator(0, 5, torch.arange(8), "mask")
    assert torch.equal(generator.rand(8, 10), whole) and (generator.rand(8, 10) != whole).all()
