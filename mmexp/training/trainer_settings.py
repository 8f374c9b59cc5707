"""Choices of a run that are the trainer's: repeatable results, and what becomes of numbers that are not finite."""

from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class TrainerSettings:
    """What the config group `trainer` sets.

    Args:
        on_nonfinite: `stop` ends the run at a loss or gradient that is NaN or infinite and tells where; `skip` leaves the step
            out, reports it, and goes on. Losses and gradients are checked in every step on a CPU, and where steps are to be
            skipped; else in those that are logged, since a check makes a GPU wait.
        deterministic: Lightning's argument of this name. `true` and `warn` make PyTorch take deterministic algorithms, so that
            the same command gives the same weights bit for bit with any number of threads. Where an operation has none, as
            some on GPUs, `true` raises PyTorch's error and `warn` a warning; every operation here has one on a CPU.
    """

    on_nonfinite: Literal["stop", "skip"] = "stop"
    deterministic: bool | Literal["warn"] = "warn"

    def trainer_arguments(self) -> dict[str, object]:
        """Return what `lightning.Trainer` takes."""
        # Otherwise PyTorch fills all memory that it allocates, only to uncover reads of what nothing was written to.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        return {"deterministic": self.deterministic}
