"""What becomes of a step whose numbers are not finite."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Nonfinite:
    """`stop` ends the run and tells where; `skip` leaves the step out, tells so, and goes on.

    Losses and gradients are looked at in every step on a CPU, and where steps are to be skipped; else in those that are logged,
    since a look makes a GPU wait.
    """

    on_nonfinite: Literal["stop", "skip"] = "stop"
