"""When to stop: the first limit reached."""

from dataclasses import dataclass
from math import ceil

from mmexp.errors import RequestError
from mmexp.types import PositiveFloat, PositiveInt


@dataclass(frozen=True)
class Budget:
    """Limits of a training, each None or positive: optimizer steps, samples seen, passes over the data, seconds, FLOPs.

    Seconds are of training alone, without validations and checkpoints. Samples that are no multiple of the batch are rounded
    up to it, as FLOPs are to a step.
    """

    steps: PositiveInt | None = None
    samples: PositiveInt | None = None
    epochs: PositiveFloat | None = None
    seconds: PositiveFloat | None = None
    flops: PositiveFloat | None = None

    def total_steps(self, batch_size: int, train_rows: int, flops_per_step: float) -> tuple[int | None, str]:
        """Return the step at which the first of steps, samples, epochs and FLOPs is spent, and the name of that limit.

        None where seconds alone end the run. `batch_size` counts the rows of one step over all processes.
        """
        limits = {
            "steps": self.steps,
            "samples": self.samples and ceil(self.samples / batch_size),
            "epochs": self.epochs and ceil(self.epochs * max(1, train_rows // batch_size)),
            "flops": self.flops and ceil(self.flops / max(1.0, flops_per_step)),
        }
        reached = [(limit, name) for name, limit in limits.items() if limit]
        if reached:
            return min(reached)
        if self.seconds:
            return None, "seconds"
        raise RequestError(
            "budget: nothing says when to end. Set one of budget.steps, budget.samples, budget.epochs, budget.seconds, "
            "budget.flops."
        )
