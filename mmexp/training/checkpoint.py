"""Checkpoints and early stopping, as settings that become Lightning callbacks."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

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
    """Lightning's, which also knows the step of the best value, and ends at once where it is resumed after it ended the run."""

    best_step: int | None = None
    last: float | None = None

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """End at once what had ended."""
        trainer.should_stop = trainer.should_stop or self.stopped

    def on_validation_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Check as Lightning does; note the value, and the step where it is the best so far."""
        before = self.best_score
        super().on_validation_end(trainer, task)
        self.last = float(trainer.callback_metrics[self.monitor])
        if self.best_score is not before:
            self.best_step = trainer.global_step

    @property
    def stopped(self) -> bool:
        """Whether this ended the run."""
        patient = self.stopping_reason == EarlyStoppingReason.PATIENCE_EXHAUSTED and self.wait_count < self.patience
        return self.stopping_reason != EarlyStoppingReason.NOT_STOPPED and not patient

    def facts(self, step: int) -> dict[str, Any]:
        """Return what `run.json` says of a run that this ended at a step: reason, metric, its last and its best value."""
        best = None if self.best_step is None else float(self.best_score)
        about = {"reason": self.stopping_reason.name.lower(), "metric": self.monitor, "step": step}
        return {**about, "last": self.last, "best": best, "best_step": self.best_step}

    def told(self, step: int) -> str:
        """Return in a line why the run ended at a step."""
        if self.stopping_reason == EarlyStoppingReason.NON_FINITE_METRIC:
            why = f"{self.monitor} is {self.last}, which is not finite"
        else:
            times = f"{self.patience} validation{'s' * (self.patience > 1)}"
            why = f"{self.monitor} has not improved by more than {abs(self.min_delta):g} for {times}"
        best = (
            f"best {float(self.best_score):.4g} at step {self.best_step:,}"
            if self.best_step
            else "no finite value before"
        )
        return f"early stopping at step {step:,}: {why}; {best}"

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run goes on from."""
        return {**super().state_dict(), "best_step": self.best_step, "last": self.last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there, with the patience of this run."""
        super().load_state_dict({**state_dict, "patience": self.patience})
        self.best_step, self.last = state_dict.get("best_step"), state_dict.get("last")


def early_stop(trainer: L.Trainer) -> Patience | None:
    """Return the callback that ended a run early, None where none did."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return next((one for one in callbacks if isinstance(one, Patience) and one.stopped), None)


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
