"""`last.ckpt`, from which a run goes on exactly, and further checkpoints that stay."""

import os
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint


def save(trainer: L.Trainer, path: Path) -> None:
    """Write a checkpoint, the one before stays as `previous.ckpt`; all processes take part, one writes."""
    if trainer.is_global_zero and path.is_file():
        beside = path.with_name(".previous")
        beside.unlink(missing_ok=True)
        os.link(path, beside)
        os.replace(beside, path.with_name("previous.ckpt"))
    trainer.save_checkpoint(path)


def before_validation(trainer: L.Trainer) -> bool:
    """Return whether a validation is due after the step just taken.

    A trainer that resumes there would leave it out, and with it perhaps the best checkpoint.
    """
    every = trainer.val_check_batch
    due = trainer.should_stop or (isinstance(every, int) and trainer.global_step % every == 0)
    return trainer.enable_validation and due


class Saving(Checkpoint):
    """Writes `last.ckpt` after each of `steps` steps, `seconds` seconds and validations, and at the end.

    With `keep`, what was due by steps or seconds stays as `step-N.ckpt` too, the newest so many. It stands after the callback
    that chooses the best, whose state is part of what it writes.
    """

    def __init__(self, directory: Path, steps: int, seconds: float | None, keep: int):
        self.directory, self.steps, self.seconds, self.keep = directory, steps, seconds, keep
        self._at = time.monotonic()
        self._written = -1

    def on_train_batch_end(self, trainer: L.Trainer, task: L.LightningModule, *_: Any) -> None:
        """Save where it is due, unless a validation comes first."""
        if self._due(trainer) and not before_validation(trainer):
            self._save(trainer, stays=True)

    def on_validation_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Save what the validation found."""
        if not trainer.sanity_checking:
            self._save(trainer, stays=self._due(trainer))

    def on_train_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Save the end of the run, or of one of tasks in sequence, even after a validation: all is done, that one too."""
        self._written = -1
        self._save(trainer, stays=False)

    def _due(self, trainer: L.Trainer) -> bool:
        if trainer.global_step % self.steps == 0:
            return True
        # One clock decides for all processes.
        late = self.seconds is not None and time.monotonic() - self._at >= self.seconds
        return self.seconds is not None and bool(trainer.strategy.broadcast(late))

    def _save(self, trainer: L.Trainer, stays: bool) -> None:
        if trainer.global_step == self._written:
            return
        self._at, self._written = time.monotonic(), trainer.global_step
        self.directory.mkdir(parents=True, exist_ok=True)
        last = self.directory / "last.ckpt"
        save(trainer, last)
        if stays and self.keep and trainer.is_global_zero:
            self._link(last, self.directory / f"step-{trainer.global_step}.ckpt")

    def _link(self, last: Path, path: Path) -> None:
        path.unlink(missing_ok=True)
        os.link(last, path)
        kept = sorted(self.directory.glob("step-*.ckpt"), key=lambda file: int(file.stem.partition("-")[2]))
        for old in kept[: -self.keep]:
            old.unlink()
