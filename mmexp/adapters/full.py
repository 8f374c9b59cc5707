"""Full fine-tuning: every weight is trained."""

from torch import nn


class Full:
    """Leave the model as it is."""

    needs_weights = False

    def apply(self, model: nn.Module, fresh: set[str]) -> None:
        """Change nothing."""

    def merge(self, model: nn.Module) -> None:
        """Nothing was added, nothing is merged."""
