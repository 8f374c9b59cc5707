"""Feature alignment: a small trained layer behind a frozen tower."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.types import Encoded, PositiveInt


class Alignment:
    """Freeze a tower, and turn its tokens and its pooled vector by one layer that starts as the identity.

    `kind` is `linear` (a D x D matrix and a bias), or `mlp`: a residual MLP of `width`, as CLIP-Adapter has it
    (arXiv:2110.04544). The layer is no part of the tower, whose outputs can so be kept. The fusion is frozen as it is.
    """

    needs_weights = True
    towers_only = True
    added = "alignment"

    def __init__(self, kind: Literal["linear", "mlp"] = "linear", width: PositiveInt = 96):
        self.kind, self.width = kind, width

    def apply(self, name: str, part: nn.Module) -> None:
        """Freeze the tower."""
        part.requires_grad_(False)

    def behind(self, dim: int) -> nn.Module:
        """Return the layer for encodings of `dim`."""
        return Aligned(dim, self.width if self.kind == "mlp" else None)

    def merge(self, part: nn.Module) -> None:
        """The layer stays where it is."""


class Aligned(nn.Module):
    """From `Encoded` to `Encoded` of the same sizes."""

    def __init__(self, dim: int, width: int | None):
        super().__init__()
        self.down = nn.Linear(dim, width) if width else None
        self.turn = nn.Linear(width or dim, dim)
        nn.init.zeros_(self.turn.bias)
        if width:
            nn.init.zeros_(self.turn.weight)
        else:
            nn.init.eye_(self.turn.weight)

    def no_weight_decay(self) -> set[str]:
        """Return the weight that starts as the identity: decay would shrink it to zero."""
        return {"turn.weight"} if self.down is None else set()

    def forward(self, encoded: Encoded) -> Encoded:
        """Turn tokens and pooled alike; where nothing is, zeros stay zeros."""
        tokens = self._turned(encoded.tokens).masked_fill(~encoded.mask[..., None], 0)
        pooled = self._turned(encoded.pooled)
        if encoded.present is not None:
            pooled = pooled.masked_fill(~encoded.present[:, None], 0)
        return Encoded(tokens, pooled, encoded.mask, encoded.parts, encoded.present)

    def _turned(self, x: Tensor) -> Tensor:
        x = x.to(self.turn.weight.dtype)  # what was kept of a tower may be of half the precision
        return self.turn(x) if self.down is None else x + self.turn(F.gelu(self.down(x)))
