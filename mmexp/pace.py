"""How far a run is. Standard library only."""

from dataclasses import dataclass


@dataclass
class Pace:
    """How much of its limits a run has spent; None is no limit.

    `seconds` are of training alone, and `spent` those up to the last look at the clock, the same in all processes. `warm` is
    the share at which a schedule's warm-up ended, None before; `flops` those of one step over all processes, None before it.
    """

    total_steps: int | None
    seconds: float | None = None
    spent: float = 0.0
    warm: float | None = None
    flops: float | None = None

    def share(self, step: int) -> float:
        """Return the share (0 to 1) of the run that is done after `step` steps: that of the limit which is nearest."""
        of_steps = step / self.total_steps if self.total_steps else 0.0
        return min(1.0, max(of_steps, self.spent / self.seconds if self.seconds else 0.0))

    @property
    def out_of_time(self) -> bool:
        """Whether the seconds are spent."""
        return self.seconds is not None and self.spent >= self.seconds
