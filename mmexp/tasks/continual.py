"""Tasks in sequence: what is done at their boundaries, and what of all of them is known after each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import nan
from typing import Any

import torch
from torch import Tensor, nn

from mmexp.continual.plain import Plain
from mmexp.curriculum import Curriculum, current
from mmexp.model import Model
from mmexp.step import Views
from mmexp.tasks.base import Task
from mmexp.tasks.views import StepViews, looks_at
from mmexp.types import Batch


class Learner(nn.Module):
    """Implements `mmexp.step.Learner`: model and objectives, each of a `weight`."""

    def __init__(self, model: Model, objectives: Mapping[str, nn.Module], weights: Mapping[str, Curriculum[float]]):
        super().__init__()
        self.model = model
        self.objectives: Any = nn.ModuleDict(dict(objectives.items()))
        self.weights = dict(weights)

    def said(self, views: Views) -> dict[str, Tensor]:
        """Return unit vectors `vector/<modality> (B, D)`, their logit `scale`, and class logits `logits/<objective> (B, C)`."""
        embedding: Any = next((o for o in self.objectives.values() if hasattr(o, "embed")), None)
        vectors = embedding.embed(views.encoded()) if embedding else {}
        said = {f"vector/{name}": vector for name, vector in vectors.items()}
        if hasattr(embedding, "logit_scale"):
            said["scale"] = embedding.logit_scale()
        heads = {name: o for name, o in self.objectives.items() if hasattr(o, "classify")}
        return said | {f"logits/{name}": head.classify(looks_at(head, views)) for name, head in heads.items()}

    def again(self, batch: Batch) -> StepViews:
        """Return a batch as this model sees it; its gathering is of the batch alone."""
        return StepViews(self.model, batch, 0, 0, lambda tensor: tensor)

    def loss(self, batch: Batch) -> Tensor:
        """Return the objectives' losses (a scalar) of a batch, by their weights at the end of the run."""
        views = self.again(batch)
        each = [
            current(self.weights[name], 1.0) * loss
            for name, o in self.objectives.items()
            for loss in o(views).losses.values()
        ]
        return torch.stack(each).sum()


class ContinualTask(Task):
    """Trains one task after another, `steps_per_task` steps each: to the trainer an epoch.

    Optimizer and schedule start anew with each task. `names` are the tasks, `metric` is what their accuracy is; `measured`
    holds it for all of them, by name, after each task. `own_rows(number, rows, count)` gives batches of a task's own rows,
    `order` reads those of its `task`.
    """

    in_sequence = True

    def __init__(self, *args: Any, continual: Plain, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.continual = continual
        self.names: Sequence[str] = ()
        self.metric = ""
        self.steps_per_task = self.total_steps or 1
        self.number, self.finished = 0, -1
        self.measured: list[dict[str, float]] = []
        self.order: Any = None
        self.own_rows: Callable[[int, int, int], Iterable[Batch]]
        self.continual.open(0, self.learner)

    @property
    def learner(self) -> Any:
        """Return model and objectives as the method sees them; no submodule, so that no weight is there twice."""
        return Learner(self.model, self.objectives, self.weights)

    def configure_optimizers(self) -> Any:
        """Return optimizer and schedule of the task under way."""
        self.continual.open(self.number, self.learner)
        whole, self.total_steps = self.total_steps, self.steps_per_task
        configured = super().configure_optimizers()
        self.total_steps = whole
        return configured

    def on_train_epoch_start(self) -> None:
        """Begin a task: the method remembers what it needs, the optimizer forgets."""
        self._begin()
        super().on_train_start()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Begin a task that no epoch begins: Lightning leaves that hook out where a checkpoint is of an epoch's last step."""
        self._begin()

    def _begin(self) -> None:
        now = self.global_step // self.steps_per_task
        if now != self.number:
            # A run that was interrupted in a task's last step has not ended it yet.
            self._finish()
            self.number = now
            self.order.task = now
            self.continual.begin(self.number, self.learner)
            self.trainer.strategy.setup_optimizers(self.trainer)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one step with what the method adds to it, logged as `loss_<name>`."""
        loss = super().training_step(batch, batch_idx)
        added = self.continual.losses(self.learner, self.seen) if self.number else {}
        if added and (self.global_step + 1) % self.log_every_steps == 0:
            self.note({f"loss_{name}": value.detach() for name, value in added.items()})
        return torch.stack([loss, *added.values()]).sum()

    def on_train_epoch_end(self) -> None:
        """End a task; the trainer of a run resumed at a task's end says so a second time, which changes nothing."""
        self._finish()

    def _finish(self) -> None:
        if self.finished == self.number:
            return
        self.finished = self.number
        self.eval()
        with self.trainer.precision_plugin.forward_context():
            self.continual.finish(self.number, self.learner, self._own_batches)
        self.train()

    def _own_batches(self, rows: int, count: int) -> Iterable[Batch]:
        for batch in self.own_rows(self.number, rows, count):
            yield self.transfer_batch_to_device(batch, self.device, 0)

    def on_validation_epoch_start(self) -> None:
        """Show the method that all tasks are to be measured."""
        super().on_validation_epoch_start()
        self.continual.measure(self.number, self.learner)

    def on_validation_batch_start(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Show the method which task is measured."""
        if batch_idx == 0:
            self.continual.look(self.names.index(self.splits[dataloader_idx]), self.number, self.learner)

    def on_validation_epoch_end(self) -> None:
        """Keep what is known of every task."""
        super().on_validation_epoch_end()
        self.continual.look(self.number, self.number, self.learner)
        # What an interruption in a task's last step left unmeasured is not known.
        missing = 0 if self.trainer.testing else self.number + 1 - len(self.measured)
        self.measured += [dict.fromkeys(self.names, nan)] * missing if not self.continual.joint else []
        # Nor is what no row of a task's evaluation set tells.
        self.measured.append({name: self.results.get(f"{name}/{self.metric}", nan) for name in self.names})

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_start = on_validation_batch_start
    on_test_epoch_end = on_validation_epoch_end

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep where in the sequence the run is."""
        checkpoint["sequence"] = {"number": self.number, "finished": self.finished, "measured": self.measured}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from there."""
        for name, value in checkpoint["sequence"].items():
            setattr(self, name, value)
