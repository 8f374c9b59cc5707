"""Full fine-tuning: every weight is trained."""

from torch import nn


class Full:
    """Leave a part as it is."""

    needs_weights = False
    added = None

    def apply(self, name: str, part: nn.Module) -> None:
        """Change nothing."""

    def merge(self, part: nn.Module) -> None:
        """Nothing was added, nothing is merged."""
