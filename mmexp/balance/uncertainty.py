"""Weights learned as the noise of each loss (Kendall, Gal and Cipolla, arXiv:1705.07115)."""

from math import log

import torch
from torch import Tensor, nn

from mmexp.balance.weight_adam import WeightAdam
from mmexp.step import Balanced, Losses
from mmexp.types import PositiveFloat, PositiveInt


class Uncertainty(nn.Module):
    """Learns the log-variance s of each of `count` losses L, which minimises exp(-s) L + s: at the optimum exp(-s) = 1 / L.

    This is twice the paper's equation 7, as in the authors' code, so that at s = 0 the stated weights hold. In a step in which
    no row counts in a loss, its s stays as it is.

    Args:
        count: The number of losses.
        lr: The rate of the Adam that learns s, whatever the model's rate and schedule: s moves by at most about as much a step.
        max_weight: The most that exp(-s) becomes, where a loss nears zero.
        cosines_every: Compare the losses' gradients at every so many log steps, for the log alone.
    """

    def __init__(
        self,
        count: int,
        *,
        lr: PositiveFloat = 0.025,
        max_weight: PositiveFloat = 1000.0,
        cosines_every: PositiveInt | None = None,
    ):
        super().__init__()
        self.learned = WeightAdam(count, lr)
        self.max_weight, self.cosines_every = max_weight, cosines_every

    @property
    def log_variances(self) -> Tensor:
        """Return s (K,)."""
        return self.learned.values

    def forward(self, losses: Losses) -> Balanced:
        """Return the weights of this step, and learn from its losses."""
        factors = torch.exp(-self.log_variances)
        self.learned.step(1 - factors * losses.values, losses.counts & (losses.given != 0))
        self.log_variances.clamp_(min=-log(self.max_weight))
        return Balanced(losses.given * factors)
