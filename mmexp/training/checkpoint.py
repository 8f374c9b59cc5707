"""Checkpoints and early stopping, as settings that become Lightning callbacks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping

from mmexp.training.saving import Saving
from mmexp.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


@dataclass(frozen=True)
class Checkpointing:
    """`last.ckpt` at every epoch and validation, or by `every_steps` or `every_seconds`, of which `keep` stay beside it;
    `best.ckpt` at validations.
    """

    every_steps: PositiveInt | None = None
    every_seconds: PositiveFloat | None = None
    keep: NonNegativeInt = 1
    monitor: str | None = None
    validate_every_epochs: PositiveInt = 5

    def callbacks(self, directory: Path, monitor: str | None, mode: str, epoch_steps: int) -> list[Callback]:
        """Return the callbacks that write below `directory`; `monitor` is what makes the best, None where nothing is."""
        found: list[Callback] = []
        if monitor:
            best: Any = {"dirpath": directory, "enable_version_counter": False, "auto_insert_metric_name": False}
            found.append(ModelCheckpoint(**best, filename="best", monitor=monitor, mode=mode, save_top_k=1))
        asked = self.every_steps or self.every_seconds
        found.append(Saving(directory, self.every_steps or epoch_steps, self.every_seconds, self.keep if asked else 0))
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
