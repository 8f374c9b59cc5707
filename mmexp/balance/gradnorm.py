"""Weights learned so that the losses pull at the shared model by the pace at which each falls (GradNorm, arXiv:1711.02257)."""

import torch
from torch import Tensor, nn

from mmexp.step import Balanced, Losses
from mmexp.types import NonNegativeFloat

# A weight that crossed zero would have its loss climb; a loss that is zero has no pace.
_SMALL_WEIGHT, _SMALL_LOSS = 1e-3, 1e-8


def norm_targets(norms: Tensor, paces: Tensor, alpha: float) -> Tensor:
    """Return the gradient norms (K,) to aim at: the mean norm times the relative training rate to `alpha`.

    `norms (K,)` are of the weighted losses' gradients, `paces (K,)` what share of its first value each loss still has.
    """
    return norms.mean() * (paces / paces.mean()) ** alpha


class GradNorm(nn.Module):
    """The weights of `count` losses, with the sum `count`, follow equation 2 of the paper; `alpha` pulls slow losses on.

    The gradients are those on the whole shared model, where the paper takes its last layer. Losses that no row counts in are
    left out of a step.
    """

    needs = ("shared",)
    first: Tensor

    def __init__(self, count: int, *, alpha: NonNegativeFloat = 1.5):
        super().__init__()
        self.alpha = alpha
        self.weights = nn.Parameter(torch.ones(count))
        self.register_buffer("first", torch.zeros(count))

    def forward(self, losses: Losses) -> Balanced:
        """Return the weights, and their distance from those that would balance the gradients."""
        with torch.no_grad():
            self.weights.clamp_(min=_SMALL_WEIGHT).mul_(len(self.weights) / self.weights.sum())
            self.first.copy_(torch.where(self.first > 0, self.first, losses.values))
        norms = self.weights * losses.products.diag().sqrt().to(self.weights)
        paces = losses.values.clamp_min(_SMALL_LOSS) / self.first.clamp_min(_SMALL_LOSS)
        norms, paces = norms[losses.counts], paces[losses.counts]
        apart = (norms - norm_targets(norms.detach(), paces, self.alpha)).abs().sum()
        return Balanced(losses.given * self.weights.detach(), extra=apart)
