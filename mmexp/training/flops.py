"""What training costs in FLOPs: those of its first step, counted while it is taken."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch.utils.flop_counter import FlopCounterMode


class FirstStepFlops(Callback):
    """Counts the FLOPs of the first step, forward and backward; later ones are taken to cost as much. None before it."""

    def __init__(self) -> None:
        self.per_step: float | None = None
        self._counter: FlopCounterMode | None = None

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Begin to count."""
        if self.per_step is None:
            self._counter = FlopCounterMode(display=False)
            self._counter.__enter__()

    def on_train_batch_end(self, trainer: L.Trainer, task: L.LightningModule, *_: Any) -> None:
        """Keep what was counted."""
        if self._counter:
            self.per_step = float(self._counter.get_total_flops())
            self._stop()

    def on_exception(self, trainer: L.Trainer, task: L.LightningModule, exception: BaseException) -> None:
        """Count no further where the step broke off."""
        self._stop()

    def _stop(self) -> None:
        counter, self._counter = self._counter, None
        if counter:
            counter.__exit__(None, None, None)
