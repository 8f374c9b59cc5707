"""No fusion: a dual encoder, whose modalities meet only in the loss."""

from collections.abc import Mapping

from torch import nn


class NoFusion(nn.Module):
    """Holds no parameters; `dim` is None, which tells objectives that there is no fused output."""

    dim: int | None = None
    absent = True

    def __init__(self, dims: Mapping[str, int]):
        super().__init__()
