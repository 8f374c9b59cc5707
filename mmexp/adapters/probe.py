"""Linear probe: the whole model rests, fusion and all, and linear heads are trained on what it says."""

from torch import nn


class Probe:
    """Freeze a part as `frozen` does. Beyond that, every part that takes part must have weights, and every head be linear."""

    needs_weights = True
    added = None
    whole = True
    linear = True

    def apply(self, name: str, part: nn.Module) -> None:
        """Freeze the part."""
        part.requires_grad_(False)

    def merge(self, part: nn.Module) -> None:
        """Nothing was added, nothing is merged."""
