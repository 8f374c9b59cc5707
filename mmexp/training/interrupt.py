"""SIGINT, SIGTERM and SLURM's SIGUSR1 end a run after its step, with a checkpoint; a second one of the same kind at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from mmexp.training.saving import before_validation, save

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# What SLURM is asked to send some time before it ends a job (`--signal=USR1@90`).
WARNING = signal.SIGUSR1


class Interrupted(Exception):
    """A signal asked the run to end; `status` is the process's exit status."""

    def __init__(self, number: int):
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.status = 128 + number


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the KeyboardInterrupt through that Lightning makes an exit of."""
    try:
        yield
    except SystemExit as ended:
        if isinstance(ended.__context__, KeyboardInterrupt):
            raise ended.__context__ from None
        raise


class SignalCheckpoint(Checkpoint):
    """Writes `last.ckpt` into `directory` when a signal came, and raises Interrupted."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._came: int | None = None
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Listen."""
        self._before = {number: signal.signal(number, self._note) for number in (*SIGNALS, WARNING)}

    def _note(self, number: int, frame: FrameType | None) -> None:
        # Ctrl-C reaches a worker from the terminal, and as SIGTERM from its sweep: that is one wish.
        if self._came == number:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._came = number

    def on_train_batch_end(self, trainer: L.Trainer, task: L.LightningModule, *_: Any) -> None:
        """End where a step is whole, and the validation that follows it."""
        came = self._wish(trainer)
        if came and not before_validation(trainer):
            # Its turn would come after this: what it logs of the step belongs to what is kept.
            task.on_train_batch_end(None, None, 0)
            self._end(trainer, came)

    def on_validation_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """End after a validation, as after a step."""
        if came := self._wish(trainer):
            self._end(trainer, came)

    def _wish(self, trainer: L.Trainer) -> int:
        """Return the signal that came to any of the processes, 0 for none: all of them end at one step."""
        came = self._came or 0
        if trainer.world_size == 1:
            return came
        device = trainer.strategy.root_device
        return int(trainer.strategy.reduce(torch.tensor(came, device=device), reduce_op="max"))

    def _end(self, trainer: L.Trainer, came: int) -> None:
        save(trainer, self.directory / "last.ckpt")
        raise Interrupted(came)

    def on_train_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Listen no more: before Lightning puts back what it found, or its handler would stay, and with it all of the run."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def on_exception(self, trainer: L.Trainer, task: L.LightningModule, exception: BaseException) -> None:
        """Listen no more."""
        self.on_train_end(trainer, task)
