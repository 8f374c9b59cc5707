"""Two processes learn what one learns: losses are means over the rows of both, and what is drawn for a row is its own."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from stand_ins import batch_of, sounds_of, tiny_audio
from test_presence import OF_IMAGES, PAIRS, SHAPE, TinyImage, TinyText, taught
from torch import distributed, multiprocessing

from mmexp.balance.fixed import Fixed
from mmexp.fusion.xattn import CrossAttentionFusion
from mmexp.model import Model
from mmexp.objectives.bag_of_words import BagOfWords
from mmexp.objectives.classify import Classify
from mmexp.objectives.distill_features import DistillFeatures
from mmexp.objectives.distill_relations import DistillRelations
from mmexp.objectives.masked import Masked
from mmexp.objectives.masked_audio import MaskedAudio
from mmexp.tasks.balancing import BalancedStep
from mmexp.tasks.base import Task

OBJECTIVES = {
    **PAIRS,
    **OF_IMAGES,
    "masked_words": partial(Masked, patches=0.0, word_masks="spans"),
    "masked_blocks": partial(Masked, patch_masks="blocks", adaptive=True),
    "masked_audio": MaskedAudio,
    "classify_weighted": partial(Classify, class_weights={"red": 5.0}),
    "distill_features": DistillFeatures,
    "distill_relations": DistillRelations,
    "bag_of_words": BagOfWords,
}
BATCHES = ("uneven", "one_sided")


def whole_batch(kind: str) -> dict:
    """Return eight rows whose labels, words and modalities are spread unevenly over two processes.

    In `one_sided` the first of them, which has the rows 0, 2, 4 and 6, has no row with a picture and a label.
    """
    batch = {**batch_of(), "audio": sounds_of()}
    batch["text"] = TinyText().prepare(["a", "bcdef", "cc", "ddd", "e", "fffff", "g", "hhhh"])
    batch["concept"] = torch.tensor([0, 1, 2, 2, 0, 3, 4, 4])
    batch["items"] = {"image": torch.tensor([3, 1, 1, 2, 7, 4, 5, 6]), "text": torch.tensor([9, 4, 4, 5, 6, 4, 8, 5])}
    unknown = torch.tensor([0, 2, 4, 5, 6] if kind == "one_sided" else [0, 2, 4])
    batch["label"][unknown], batch["number"][unknown], batch["targets"][unknown, 1:] = -1, torch.nan, torch.nan
    gone = {"uneven": {"image": [0, 3], "text": [5]}, "one_sided": {"image": [0, 2, 4, 6, 7], "audio": [1]}}
    batch["present"] = {n: ~torch.isin(torch.arange(8), torch.tensor(rows)) for n, rows in gone[kind].items()}
    return batch


def rows_of(part, rows):
    return {name: rows_of(value, rows) for name, value in part.items()} if isinstance(part, Mapping) else part[rows]


def words_cut(batch: dict) -> dict:
    """Return the batch with its texts padded to the longest of them, as a loader does."""
    length = int(batch["text"]["mask"].sum(1).max())
    return {**batch, "text": {name: part[:, :length] for name, part in batch["text"].items()}}


def learned(kind: str, name: str, rank: int = 0, world: int = 1) -> tuple[dict, list]:
    """Return the losses and gradients of a step of one objective, as they are after processes took their means."""
    torch.manual_seed(0)
    encoders = {"audio": tiny_audio(), "image": TinyImage(), "text": TinyText()}
    if name != "masked_audio":
        del encoders["audio"]
    fusion = CrossAttentionFusion({n: encoder.dim for n, encoder in encoders.items()}, dim=8, heads=2)
    model = Model(encoders, fusion)
    objective = OBJECTIVES[name](model.shape(**SHAPE))
    task = Task(model, {name: objective}, {name: 2.0}, Fixed(), torch.optim.SGD, None)
    task.heard = taught
    if world > 1:
        task._trainer = SimpleNamespace(world_size=world, strategy=DDPStrategy(), precision_plugin=None)
    batch = words_cut(rows_of(whole_batch(kind), torch.arange(8)[rank::world]))
    batch = {key: part for key, part in batch.items() if key != "audio" or "audio" in encoders}
    losses, _ = task.terms(task.views(batch, step=3))
    (BalancedStep(task.balance, losses).loss + task._touched()).backward()
    gradients = [task._average(p.grad.clone()) for p in task.parameters() if p.grad is not None]
    return dict(zip(losses.names, losses.values, strict=True)), gradients


def process(rank: int, folder: Path) -> None:
    """Be one of two processes: take a step of every objective, and store what both learned."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {(kind, name): learned(kind, name, rank, 2) for kind in BATCHES for name in OBJECTIVES}
    if rank == 0:
        torch.save(found, folder / "found.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def of_two(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(process, (folder,), nprocs=2)
    return torch.load(folder / "found.pt")


@pytest.mark.parametrize("kind", BATCHES)
def test_two_processes_learn_what_one_learns(of_two, kind):
    for name in OBJECTIVES:
        losses, gradients = learned(kind, name)
        there, others = of_two[kind, name]
        assert losses.keys() == there.keys()
        for loss, own in losses.items():
            assert there[loss].item() == pytest.approx(own.item(), rel=1e-5, abs=1e-6), (name, loss)
        for own, other in zip(gradients, others, strict=True):
            torch.testing.assert_close(other, own, rtol=1e-4, atol=1e-5, msg=name)
        # And there was something to learn.
        assert kind == "one_sided" or any(gradient.any() for gradient in gradients), name
