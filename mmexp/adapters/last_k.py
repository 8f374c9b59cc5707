"""The last blocks of each part are trained, and what stands behind them."""

from torch import nn

from mmexp.adapters.layers import behind_blocks, last_blocks
from mmexp.types import PositiveInt


class LastK:
    """Train the last `k` blocks of a part, with the norm and the projections behind them; the rest is frozen.

    Of a fusion of streams a block is one layer of all streams.
    """

    needs_weights = True
    added = None

    def __init__(self, k: PositiveInt = 1):
        self.k = k

    def apply(self, name: str, part: nn.Module) -> None:
        """Open the last blocks. Raises RequestError where there are none, or not so many."""
        blocks = last_blocks(name, part, self.k, "k").values()
        part.requires_grad_(False)
        for opened in [*blocks, *behind_blocks(part).values()]:
            opened.requires_grad_(True)

    def merge(self, part: nn.Module) -> None:
        """Nothing was added, nothing is merged."""
