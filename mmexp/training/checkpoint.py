"""Checkpoints and early stopping, as settings that become Lightning callbacks."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping

from mmexp.errors import RequestError
from mmexp.training.saving import Saving
from mmexp.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

# Where nothing is set: a validation after so many epochs, and no more than so many in a run.
DEFAULT_EPOCHS = 5
MOST_VALIDATIONS = 20
# Checkpoints at the end of epochs are no more than so many in a run.
MOST_CHECKPOINTS = 50


@dataclass(frozen=True)
class Checkpointing:
    """`last.ckpt` at the end of epochs and at validations, or by `every_steps` or `every_seconds`, of which `keep` stay;
    `best.ckpt` at validations, which come every `validate_every_epochs` or `validate_every_steps`.
    """

    every_steps: PositiveInt | None = None
    every_seconds: PositiveFloat | None = None
    keep: NonNegativeInt = 1
    monitor: str | None = None
    validate_every_epochs: PositiveFloat | None = None
    validate_every_steps: PositiveInt | None = None

    def __post_init__(self) -> None:
        if self.validate_every_epochs and self.validate_every_steps:
            raise RequestError(
                "checkpoint.validate_every_epochs and checkpoint.validate_every_steps are both set. Leave one of them out."
            )

    def validation_interval(self, epoch_steps: int, total_steps: int | None) -> int:
        """Return after how many optimizer steps to validate.

        Intervals in epochs are shortened so that the last validation is at the end of the run, but for a few steps.

        Args:
            epoch_steps: optimizer steps of an epoch.
            total_steps: those of the run; None where time alone ends it.
        """
        if self.validate_every_steps:
            return min(self.validate_every_steps, total_steps or self.validate_every_steps)
        every = max(1, round((self.validate_every_epochs or DEFAULT_EPOCHS) * epoch_steps))
        if not total_steps:
            return every
        if self.validate_every_epochs is None:
            every = max(every, ceil(total_steps / MOST_VALIDATIONS))
        return max(1, total_steps // ceil(total_steps / every))

    def callbacks(
        self, directory: Path, monitor: str | None, mode: str, epoch_steps: int, total_steps: int | None
    ) -> list[Callback]:
        """Return the callbacks that write below `directory`; `monitor` is what makes the best, None where nothing is."""
        found: list[Callback] = []
        if monitor:
            best: Any = {"dirpath": directory, "enable_version_counter": False, "auto_insert_metric_name": False}
            found.append(ModelCheckpoint(**best, filename="best", monitor=monitor, mode=mode, save_top_k=1))
        asked = self.every_steps or self.every_seconds
        epochs_end = max(epoch_steps, ceil((total_steps or 0) / MOST_CHECKPOINTS))
        found.append(Saving(directory, self.every_steps or epochs_end, self.every_seconds, self.keep if asked else 0))
        return found


class Patience(LightningEarlyStopping):
    """Lightning's, which would train on where it is resumed after it ended the training."""

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """End at once where the patience was at its end."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


@dataclass(frozen=True)
class EarlyStopping:
    """End when `patience` validations in a row brought no progress of at least `min_delta` on what makes the best."""

    patience: PositiveInt | None = None
    min_delta: NonNegativeFloat = 0.0

    def callbacks(self, monitor: str | None, mode: str) -> list[Callback]:
        """Return the callback, or nothing."""
        if not (self.patience and monitor):
            return []
        return [Patience(monitor, patience=self.patience, min_delta=self.min_delta, mode=mode)]
