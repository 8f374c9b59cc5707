"""Training and measuring what was prepared: before training, in it, and the best of it after."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import lightning as L
import torch
from torch.utils.data import DataLoader

from mmexp.data.orders import TrainOrder
from mmexp.request import Experiment, Request
from mmexp.resuming import discard_broken, steps_before
from mmexp.sequence import measures
from mmexp.sweeps.pruning import pruned
from mmexp.tasks.base import Task
from mmexp.tasks.continual import ContinualTask
from mmexp.training.checkpoint import early_stop
from mmexp.training.loggers import told_to, without_wandb
from mmexp.types import Batch


def train_and_evaluate(experiment: Experiment, request: Request) -> dict[str, float]:
    """Return the final metrics; those of loaded weights before training are among them as `start/...`.

    With `train` false the loaded weights are measured as they are.
    """
    task, trainer, evaluations = experiment.task, experiment.trainer, experiment.evaluations
    metrics: dict[str, float] = {}
    if not request.config["train"]:
        return evaluate(task, trainer, evaluations) if request.config["evaluate"] else {}
    start = experiment.start
    if trainer.is_global_zero and (told := discard_broken(request.directory, start)):
        print(f"mmexp: {told}", file=sys.stderr)
    if experiment.loaded and request.config["evaluate"]:
        # The history of a run that goes on has them already.
        before = evaluate(task, trainer, evaluations, logged=start is None)
        metrics |= {f"start/{name}": value for name, value in before.items()}
    if isinstance(task, ContinualTask):
        return metrics | in_sequence(task, experiment, start, evaluations if request.config["evaluate"] else {})
    task.splits = ["val"] if "val" in evaluations else []
    order = cast(TrainOrder, experiment.train.batch_sampler)
    order.start = steps_before(start)
    trainer.fit(task, experiment.train, evaluations.get("val"), ckpt_path=start, weights_only=True)
    if trainer.is_global_zero and (ended := early_stop(trainer)):
        print(ended.told(trainer.global_step))
    if request.config["evaluate"] and not pruned(trainer):
        best = request.directory / "checkpoints" / "best.ckpt"
        if best.is_file():
            task.load_state_dict(torch.load(best, weights_only=True, map_location="cpu")["state_dict"])
        metrics |= evaluate(task, trainer, evaluations)
    return metrics


def in_sequence(
    task: ContinualTask, experiment: Experiment, start: Path | None, evaluations: Mapping[str, DataLoader[Batch]]
) -> dict[str, float]:
    """Return the metrics after the last of tasks in sequence, and what they and all before came to."""
    trainer = experiment.trainer
    if evaluations:
        evaluate(task, trainer, evaluations, logged=start is None)
    task.splits = list(evaluations)
    loaders = list(evaluations.values()) or None
    task.order.task, task.order.start = divmod(steps_before(start), task.steps_per_task)
    trainer.fit(task, experiment.train, loaders, ckpt_path=start, weights_only=True)
    return task.results | measures(task) if evaluations else {}


def evaluate(
    task: Task, trainer: L.Trainer, evaluations: Mapping[str, DataLoader[Batch]], logged: bool = True
) -> dict[str, float]:
    """Return the flat metrics of every evaluation set."""
    task.splits, task.results = list(evaluations), {}
    with told_to(trainer, without_wandb(trainer.loggers) if logged else []):
        trainer.test(task, list(evaluations.values()), verbose=False)
    return dict(task.results)
