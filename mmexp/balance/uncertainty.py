"""Weights learned as the noise of each loss (Kendall, Gal and Cipolla, arXiv:1705.07115)."""

import torch
from torch import nn

from mmexp.step import Balanced, Losses
from mmexp.types import PositiveInt


class Uncertainty(nn.Module):
    """Learns the log-variance s of each of `count` losses L: the sum of exp(-s) L + s, each by its stated weight.

    This is twice the paper's equation 7, as in the authors' code, so that at s = 0 the stated weights hold. At the
    optimum exp(-s) = 1 / L. In a step in which no row counts in a loss, its s is left out.
    """

    def __init__(self, count: int, *, cosines_every: PositiveInt | None = None):
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(count))
        self.cosines_every = cosines_every

    def forward(self, losses: Losses) -> Balanced:
        """Return the weights, which carry the gradient of the log-variances, and what keeps these from growing."""
        weights = losses.given * torch.exp(-self.log_variances)
        return Balanced(weights, extra=(losses.counts * losses.given * self.log_variances).sum())
