"""When a training ends: the limits of its budget, and the step at which the first of them is reached."""

from dataclasses import dataclass
from math import ceil

from mmexp.errors import RequestError
from mmexp.pace import LIMITS
from mmexp.types import PositiveFloat, PositiveInt


@dataclass(frozen=True)
class DefaultBudget:
    """The limits of a run whose user sets none: those of `conf/train.yaml`, or of a packaged experiment.

    `epochs` are at least `min_steps` optimizer steps, so that small data is trained on for longer.
    """

    steps: PositiveInt | None = None
    samples: PositiveInt | None = None
    epochs: PositiveFloat | None = None
    seconds: PositiveFloat | None = None
    flops: PositiveFloat | None = None
    min_steps: PositiveInt | None = None


@dataclass(frozen=True)
class Length:
    """How long a training is.

    Attributes:
        steps: optimizer steps; None where only time ends the run.
        limit: the key below `budget` that ends it, e.g. `epochs` or `default.epochs`.
        note: what the user should know of the other limits, in a few words; empty for nothing.
    """

    steps: int | None
    limit: str
    note: str = ""


@dataclass(frozen=True)
class Budget:
    """Limits of a training: optimizer steps, samples seen, epochs, seconds, FLOPs; None is no limit.

    The first limit reached ends the run. `default` holds only where none of the others is set. Seconds are of training
    alone, without validations and checkpoints. Samples are rounded up to whole batches, and FLOPs to whole steps.
    """

    steps: PositiveInt | None = None
    samples: PositiveInt | None = None
    epochs: PositiveFloat | None = None
    seconds: PositiveFloat | None = None
    flops: PositiveFloat | None = None
    default: DefaultBudget | None = None

    @property
    def is_default(self) -> bool:
        """Whether the user has set no limit."""
        return not any(getattr(self, name) for name in LIMITS)

    @property
    def limits(self) -> dict[str, float]:
        """The limits in force, by name."""
        source = (self.default or DefaultBudget()) if self.is_default else self
        return {name: value for name in LIMITS if (value := getattr(source, name))}

    def length(self, batch_size: int, train_rows: int, flops_per_step: float) -> Length:
        """Return when the training ends.

        Args:
            batch_size: rows of one step over all processes.
            train_rows: rows of the train split.
            flops_per_step: FLOPs of one step over all processes.

        Raises:
            RequestError: no limit is set.
        """
        limits, prefix = self.limits, "default." if self.is_default else ""
        needed = {
            "steps": limits.get("steps", 0),
            "samples": ceil(limits.get("samples", 0) / batch_size),
            "epochs": ceil(limits.get("epochs", 0) * max(1, train_rows // batch_size)),
            "flops": ceil(limits.get("flops", 0) / max(1.0, flops_per_step)),
        }
        steps = {name: int(count) for name, count in needed.items() if count}
        min_steps = (self.is_default and self.default and self.default.min_steps) or 0
        if 0 < steps.get("epochs", 0) < min_steps:
            note = f"{limits['epochs']:g} epochs are {steps.pop('epochs')} steps"
            if all(min_steps <= other for other in steps.values()):
                return Length(min_steps, "default.min_steps", note)
        if not limits:
            raise RequestError(
                "budget: no limit is set. Set one of budget.steps, budget.samples, budget.epochs, budget.seconds, "
                "budget.flops."
            )
        if not steps:
            return Length(None, f"{prefix}seconds")
        first = min(steps, key=lambda name: steps[name])
        later = [f"budget.{prefix}{name}={limits[name]:g}" for name in steps if name != first]
        return Length(steps[first], prefix + first, f"reached before {' and '.join(later)}" if later else "")
