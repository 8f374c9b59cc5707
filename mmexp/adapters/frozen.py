"""Frozen towers: only the objectives' heads are trained, and parts that no weights were loaded for."""

from torch import nn

from mmexp.adapters.parts import parts


class Frozen:
    """Freeze every part of the model that came with weights."""

    needs_weights = True

    def apply(self, model: nn.Module, fresh: set[str]) -> None:
        """Freeze `encoders.<name>` and `fusion`, but for those named in `fresh`."""
        for name, part in parts(model):
            if name not in fresh:
                part.requires_grad_(False)

    def merge(self, model: nn.Module) -> None:
        """Nothing was added, nothing is merged."""
