"""A moving average of the weights: what is measured, kept as the best, and handed on, while the weights themselves train on."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mmexp.types import Fraction

# Of a checkpoint: the weights that train, where the average stands in their place.
TRAINED = "trained_weights"


@dataclass(frozen=True)
class Averaging:
    """After each step the average becomes `decay` * average + (1 - `decay`) * weights; None: there is none."""

    decay: Fraction | None = None

    def callbacks(self) -> list[Callback]:
        """Return the callback, or nothing."""
        return [] if self.decay is None else [WeightAverage(self.decay)]


class WeightAverage(Callback):
    """Averages trained weights, and the running statistics of batch norms, in fp32 whatever the precision of the run.

    In the first steps the decay is less, (1 + step) / (10 + step), so that a short run's average is not of its random start
    (as `tf.train.ExponentialMovingAverage` with `num_updates`). Lightning's own callback would copy the task with its data, and
    take the average away before the classes of a zero-shot evaluation are encoded.

    In a checkpoint the average is the `state_dict`, so that whoever starts from it starts from the average. It stands before
    the callbacks that save.
    """

    def __init__(self, decay: float):
        self.decay = decay
        self.average: dict[str, Tensor] = {}
        self.trained: dict[str, Tensor] = {}

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Begin with the weights as they are, unless a checkpoint had an average."""
        weights = dict(averaged(task))
        started = self.average or weights
        self.average = {name: started[name].to(weight.device).float().clone() for name, weight in weights.items()}

    def on_train_batch_end(self, trainer: L.Trainer, task: L.LightningModule, *_: Any) -> None:
        """Follow the step just taken."""
        step = trainer.global_step
        follow = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
        follow(list(self.average.values()), [weight.float() for _, weight in averaged(task)], step)

    def on_validation_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Show the average instead of the weights."""
        self.trained = {name: weight.clone() for name, weight in averaged(task)}
        put(task, self.average)

    def on_validation_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Take it away again."""
        put(task, self.trained)
        self.trained = {}

    def on_train_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Leave the average as what was learned."""
        put(task, self.average)

    def on_save_checkpoint(self, trainer: L.Trainer, task: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the average where the weights are, and these beside it."""
        weights = checkpoint["state_dict"]
        checkpoint[TRAINED] = {name: weights[name] for name in self.average}
        checkpoint["state_dict"] = weights | self.average

    def on_load_checkpoint(self, trainer: L.Trainer, task: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on from both. A checkpoint without an average has it begin with its weights."""
        trained = checkpoint.get(TRAINED, {})
        self.average = {name: checkpoint["state_dict"][name] for name in trained}
        put(task, trained)


def averaged(task: L.LightningModule) -> Iterator[tuple[str, Tensor]]:
    """Yield what is averaged, by name: trained weights of model and heads, and the statistics of their batch norms."""
    for name, parameter in task.named_parameters(remove_duplicate=False):
        if parameter.requires_grad and name.startswith(("model.", "objectives.")):
            yield name, parameter.detach()
    for name, buffer in task.named_buffers(remove_duplicate=False):
        if name.endswith(("running_mean", "running_var")) and name.startswith(("model.", "objectives.")):
            yield name, buffer


@torch.no_grad()
def put(task: L.LightningModule, weights: dict[str, Tensor]) -> None:
    """Copy `weights` into a task, by name."""
    places = dict(averaged(task))
    for name, weight in weights.items():
        places[name].copy_(weight)
