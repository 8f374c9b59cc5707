"""Weights by how slowly each loss falls (dynamic weight averaging of MTAN, arXiv:1803.10704)."""

import torch
from torch import Tensor, nn

from mmexp.step import Balanced, Losses
from mmexp.types import PositiveFloat, PositiveInt


class DWA(nn.Module):
    """Softmax over the ratio of each of `count` losses to itself a period before; `temperature` evens the weights out.

    The paper's periods are epochs; here they are `every` steps, so that the length of an epoch changes nothing. For the
    first two of them the stated weights hold. The mean of a loss over a period is of the steps in which any row counts in it.
    """

    total: Tensor
    counted: Tensor
    steps: Tensor
    last: Tensor
    before: Tensor

    def __init__(
        self,
        count: int,
        *,
        temperature: PositiveFloat = 2.0,
        every: PositiveInt = 50,
        cosines_every: PositiveInt | None = None,
    ):
        super().__init__()
        self.temperature, self.every, self.cosines_every = temperature, every, cosines_every
        self.register_buffer("total", torch.zeros(count))
        self.register_buffer("counted", torch.zeros(count))
        self.register_buffer("steps", torch.zeros(()))
        # Unknown until a period is over.
        self.register_buffer("last", torch.full((count,), torch.nan))
        self.register_buffer("before", torch.full((count,), torch.nan))

    def forward(self, losses: Losses) -> Balanced:
        """Return the weights, whose sum is that of the stated ones where these are equal."""
        ratio = torch.nan_to_num(self.last / self.before, nan=1.0, posinf=1.0)
        weights = len(ratio) * torch.softmax(ratio / self.temperature, 0)
        self._count(losses)
        return Balanced(losses.given * weights)

    def _count(self, losses: Losses) -> None:
        self.total += losses.values
        self.counted += losses.counts
        self.steps += 1
        if self.steps == self.every:
            self.before.copy_(self.last)
            self.last.copy_(self.total / self.counted)
            for sums in (self.total, self.counted, self.steps):
                sums.zero_()
