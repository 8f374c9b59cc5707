"""Frozen towers: only the objectives' heads are trained, and parts that no weights were loaded for."""

from torch import nn


class Frozen:
    """Freeze a part that came with weights."""

    needs_weights = True
    added = None

    def apply(self, name: str, part: nn.Module) -> None:
        """Freeze the part."""
        part.requires_grad_(False)

    def merge(self, part: nn.Module) -> None:
        """Nothing was added, nothing is merged."""
