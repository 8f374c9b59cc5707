"""The weights as the objectives state them."""

from torch import nn

from mmexp.step import Balanced, Losses
from mmexp.types import PositiveInt


class Fixed(nn.Module):
    """The weighted sum of the losses. Gradients are compared at every `cosines_every`-th log step, for the log alone."""

    def __init__(self, *, cosines_every: PositiveInt | None = None):
        super().__init__()
        self.cosines_every = cosines_every

    def forward(self, losses: Losses) -> Balanced:
        """Return the stated weights."""
        return Balanced(losses.given)
