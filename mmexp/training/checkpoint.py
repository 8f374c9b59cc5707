"""Checkpoints and early stopping, as settings that become Lightning callbacks."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping

from mmexp.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


@dataclass(frozen=True)
class Checkpointing:
    """`last.ckpt` and `best.ckpt` at every validation, and further ones by steps or seconds, of which `keep` stay."""

    every_steps: PositiveInt | None = None
    every_seconds: PositiveFloat | None = None
    keep: NonNegativeInt = 1
    monitor: str | None = None
    validate_every_epochs: PositiveInt = 5

    def callbacks(self, directory: Path, monitor: str | None, mode: str) -> list[Callback]:
        """Return the callbacks that write below `directory`; `monitor` is what makes the best, None where nothing is."""
        common: dict[str, Any] = {
            "dirpath": directory,
            "enable_version_counter": False,
            "auto_insert_metric_name": False,
        }
        found: list[Callback] = []
        if monitor:
            found.append(ModelCheckpoint(**common, filename="best", monitor=monitor, mode=mode, save_top_k=1))
        if self.every_steps or self.every_seconds:
            found.append(
                ModelCheckpoint(
                    **common,
                    filename="step-{step}",
                    monitor="step",
                    mode="max",
                    save_top_k=self.keep,
                    every_n_train_steps=self.every_steps,
                    train_time_interval=timedelta(seconds=self.every_seconds) if self.every_seconds else None,
                    # Else a checkpoint due at the last step of an epoch would wait for the next validation.
                    save_on_train_epoch_end=True,
                )
            )
        found.append(ModelCheckpoint(**common, filename="last", save_top_k=1, save_on_train_epoch_end=True))
        return found


@dataclass(frozen=True)
class EarlyStopping:
    """End when `patience` validations in a row brought no progress of at least `min_delta` on what makes the best."""

    patience: PositiveInt | None = None
    min_delta: NonNegativeFloat = 0.0

    def callbacks(self, monitor: str | None, mode: str) -> list[Callback]:
        """Return the callback, or nothing."""
        if not (self.patience and monitor):
            return []
        return [LightningEarlyStopping(monitor, patience=self.patience, min_delta=self.min_delta, mode=mode)]
