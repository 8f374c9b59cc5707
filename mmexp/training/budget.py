"""When to stop: the first limit reached."""

from dataclasses import dataclass
from math import ceil

from mmexp.errors import RequestError
from mmexp.types import PositiveFloat, PositiveInt


@dataclass(frozen=True)
class Budget:
    """Limits of a training, each None or positive: optimizer steps, samples seen, passes over the data, seconds, FLOPs."""

    steps: PositiveInt | None = None
    samples: PositiveInt | None = None
    epochs: PositiveFloat | None = None
    seconds: PositiveFloat | None = None
    flops: PositiveFloat | None = None

    def total_steps(self, batch_size: int, train_rows: int, flops_per_step: float) -> int:
        """Return the step at which the first of steps, samples, epochs and FLOPs is spent; the schedule ends there.

        `batch_size` counts the rows of one step over all processes. Seconds are watched by a timer while training.
        """
        limits = [
            self.steps,
            self.samples and ceil(self.samples / batch_size),
            self.epochs and ceil(self.epochs * max(1, train_rows // batch_size)),
            self.flops and ceil(self.flops / max(1.0, flops_per_step)),
        ]
        reached = [limit for limit in limits if limit]
        if not reached:
            raise RequestError(
                "budget: nothing says when to end. Set one of budget.steps, budget.samples, budget.epochs, budget.flops; "
                "with budget.seconds alone the schedule would not know its last step."
            )
        return min(reached)
