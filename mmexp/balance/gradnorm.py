"""Weights learned so that the losses pull at the shared model by the pace at which each falls (GradNorm, arXiv:1711.02257)."""

from math import log

import torch
from torch import Tensor, nn

from mmexp.balance.weight_adam import WeightAdam
from mmexp.step import Balanced, Losses
from mmexp.types import NonNegativeFloat, PositiveFloat

_SMALL_LOSS = 1e-8  # a loss that is zero has no pace


def norm_targets(norms: Tensor, paces: Tensor, alpha: float) -> Tensor:
    """Return the gradient norms (K,) to aim at: the mean norm times the relative training rate to `alpha`.

    `norms (K,)` are of the weighted losses' gradients, `paces (K,)` what share of its first value each loss still has.
    """
    return norms.mean() * (paces / paces.mean()) ** alpha


class GradNorm(nn.Module):
    """The weights of `count` losses, with the sum `count`, follow equation 2 of the paper.

    The gradients are those on the whole shared model, where the paper takes its last layer. Losses that no row counts in are
    left out of a step. Weights are the softmax of learned logits: they stay positive and keep their sum, which the paper
    restores by dividing, and a step changes a small weight by as large a share as a large one.

    Args:
        count: The number of losses.
        alpha: How strongly slow losses are pulled on; 0 asks for gradients of equal norm alone.
        lr: The rate of the Adam that learns the logits (the paper's 0.025), whatever the model's rate and schedule.
        max_ratio: The most that a weight becomes over or under their geometric mean, where a loss nears zero.
    """

    needs = ("shared",)
    first: Tensor

    def __init__(
        self,
        count: int,
        *,
        alpha: NonNegativeFloat = 1.5,
        lr: PositiveFloat = 0.025,
        max_ratio: PositiveFloat = 1000.0,
    ):
        super().__init__()
        self.alpha, self.max_ratio = alpha, max_ratio
        self.learned = WeightAdam(count, lr)
        self.register_buffer("first", torch.zeros(count))

    @property
    def weights(self) -> Tensor:
        """Return the weights (K,), of sum K."""
        return len(self.learned.values) * self.learned.values.softmax(0)

    def forward(self, losses: Losses) -> Balanced:
        """Return the weights of this step, and learn from the norms of its gradients."""
        weights, known = self.weights, losses.counts
        self.first.copy_(torch.where(self.first > 0, self.first, losses.values))
        self.learned.step(self.gradient(losses), known)
        self.learned.values -= self.learned.values.mean()
        self.learned.values.clamp_(-log(self.max_ratio), log(self.max_ratio))
        return Balanced(losses.given * weights)

    def gradient(self, losses: Losses) -> Tensor:
        """Return the gradient (K,) of the distance between norms and targets (eq. 2) on the logits, with fixed targets."""
        known, weights = losses.counts, self.weights
        lengths = losses.products.diag().sqrt().to(weights)
        paces = losses.values.clamp_min(_SMALL_LOSS) / self.first.clamp_min(_SMALL_LOSS)
        norms = (weights * lengths)[known]
        signs = torch.zeros_like(weights)
        signs[known] = (norms - norm_targets(norms, paces[known], self.alpha)).sign()
        of_weights = signs * lengths
        return weights * (of_weights - (of_weights * weights).sum() / len(weights))
