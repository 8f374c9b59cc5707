"""How far a run is. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The keys of `budget`, each of which may end a run.
LIMITS = ("steps", "samples", "epochs", "seconds", "flops")


def limits_in_force(budget: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits of a `budget` node by name: those that the user set, or `budget.default` where there is none."""
    own = {name: budget[name] for name in LIMITS if budget.get(name)}
    default = budget.get("default") or {}
    return own or {name: default[name] for name in LIMITS if default.get(name)}


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
