"""What a person sees while a run trains, and how fast it went."""

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from mmexp.pace import Pace

_WARM_UP_STEPS = 3
_SECONDS_BETWEEN_LINES = 15.0


class Stopwatch(Callback):
    """Counts training steps and the time they take, without validations and checkpoints; the speed also without warm-up.

    Ends the training where `pace` is out of time. The seconds are in the checkpoint, so that a resumed run goes on counting.
    """

    def __init__(self, batch_size: int, pace: Pace):
        self.batch_size, self.pace = batch_size, pace
        self.steps, self.seconds, self.train_seconds = 0, 0.0, 0.0
        self._previous: float | None = None
        self._seen = 0

    def now(self) -> float:
        """Return the seconds of training up to this moment, those of the step under way included."""
        return self.train_seconds + (0.0 if self._previous is None else time.perf_counter() - self._previous)

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """End at once what was resumed after its time."""
        trainer.should_stop = trainer.should_stop or self.pace.out_of_time

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """A step's time begins where the step before ended, so that waiting for data counts; a validation breaks it."""
        if self._previous is None:
            self._previous = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, task: L.LightningModule, *_: Any) -> None:
        """Add the step."""
        now = time.perf_counter()
        spent = 0.0 if self._previous is None else now - self._previous
        self._previous = now
        self._seen += 1
        self.train_seconds += spent
        if self._seen > _WARM_UP_STEPS:
            self.steps += 1
            self.seconds += spent
        trainer.should_stop = trainer.should_stop or self.pace.out_of_time

    def on_validation_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """The time until the next step is not training."""
        self._previous = None

    def on_save_checkpoint(self, trainer: L.Trainer, task: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Nor is that of a checkpoint."""
        self._previous = None

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run goes on from."""
        return {"train_seconds": self.train_seconds, "warm": self.pace.warm, "flops": self.pace.flops}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.train_seconds = self.pace.spent = state["train_seconds"]
        self.pace.warm, self.pace.flops = state["warm"], state["flops"]

    @property
    def samples_per_second(self) -> float:
        """Samples a second over the steps after the warm-up."""
        return self.steps * self.batch_size / self.seconds if self.seconds else 0.0


class ProgressBar(Callback):
    """A bar with loss, samples a second and time left; in a file or pipe a line now and then instead."""

    def __init__(self, stopwatch: Stopwatch):
        self.stopwatch, self.pace = stopwatch, stopwatch.pace
        self._bar: Any = None
        self._line_at = 0.0

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Draw the bar on a terminal."""
        if not trainer.is_global_zero or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._bar.start()
        self._bar.add_task("training", total=1.0, state="")

    def on_train_batch_end(self, trainer: L.Trainer, task: L.LightningModule, *_: Any) -> None:
        """Show the newest logged loss."""
        if not trainer.is_global_zero:
            return
        state = self._state(trainer)
        if self._bar:
            self._bar.update(0, completed=self.pace.share(trainer.global_step), state=state)
        elif time.monotonic() - self._line_at > _SECONDS_BETWEEN_LINES:
            self._line_at = time.monotonic()
            line = f"{state}  {self._left(trainer)}"
            print(line.rstrip(), file=sys.stderr, flush=True)

    def _state(self, trainer: L.Trainer) -> str:
        loss = trainer.callback_metrics.get("train/loss")
        speed = self.stopwatch.samples_per_second
        parts = (
            f"step {trainer.global_step}" + (f"/{self.pace.total_steps}" if self.pace.total_steps else ""),
            f"loss {float(loss):.3f}" if loss is not None else "",
            f"{speed:.0f} samples/s" if speed else "",
        )
        return "  ".join(part for part in parts if part)

    def _left(self, trainer: L.Trainer) -> str:
        share = self.pace.share(trainer.global_step)
        left = self.stopwatch.train_seconds * (1 - share) / share
        return f"{left / 60:.0f} min left" if left > 90 else f"{left:.0f} s left"

    def teardown(self, trainer: L.Trainer, task: L.LightningModule, stage: str) -> None:
        """Leave the terminal as it was, however the run ended."""
        if self._bar:
            self._bar.stop()
            self._bar = None
