"""Learned weights of losses with an Adam of their own, at a constant rate."""

import torch
from torch import Tensor, nn

_BETAS, _EPS = (0.9, 0.999), 1e-8


class WeightAdam(nn.Module):
    """Values that a balance learns, one for each loss, apart from the model's parameters, their rate and their schedule.

    They are buffers, so that checkpoints hold them. Adam (arXiv:1412.6980) with its default betas; its moments and its count of
    steps are of each value, and stay as they are in a step in which it is not known.

    Args:
        count: The number of losses K.
        lr: The rate.
    """

    values: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor

    def __init__(self, count: int, lr: float):
        super().__init__()
        self.lr = lr
        for name in ("values", "mean", "square", "steps"):
            self.register_buffer(name, torch.zeros(count))

    @torch.no_grad()
    def step(self, gradient: Tensor, known: Tensor) -> None:
        """Take a step against `gradient (K,)`, of the values that are `known (K,)`; one that is not finite is left out."""
        known = known & gradient.isfinite()
        self.steps += known
        gradient = gradient.where(known, 0)
        for moment, new, beta in zip((self.mean, self.square), (gradient, gradient.square()), _BETAS, strict=True):
            moment.copy_(torch.where(known, beta * moment + (1 - beta) * new, moment))
        steps = self.steps.clamp_min(1)
        mean, square = (m / (1 - beta**steps) for m, beta in zip((self.mean, self.square), _BETAS, strict=True))
        self.values -= torch.where(known, self.lr * mean / (square.sqrt() + _EPS), 0)
