"""Weights under which the losses fall at one relative rate, without their gradients (FAMO, arXiv:2306.03792)."""

import torch
from torch import Tensor, nn

from mmexp.step import Balanced, Losses
from mmexp.types import NonNegativeFloat, PositiveFloat, PositiveInt

_SMALL_LOSS = 1e-8  # below it a logarithm says nothing


class FAMO(nn.Module):
    """Minimises the logarithms of `count` losses by softmax weights z; `lr` and `weight_decay` are of the logits' Adam.

    After each step the same batch is looked at once more: what fell less is pulled more (the paper's algorithm 1, its
    logits moved by Adam as in the authors' code). The losses have to be positive; one that is of no row is left out of a step.
    """

    logits: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor

    def __init__(
        self,
        count: int,
        *,
        lr: PositiveFloat = 0.025,
        weight_decay: NonNegativeFloat = 1e-5,
        cosines_every: PositiveInt | None = None,
    ):
        super().__init__()
        self.lr, self.weight_decay, self.cosines_every = lr, weight_decay, cosines_every
        for name in ("logits", "mean", "square"):
            self.register_buffer(name, torch.zeros(count))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, losses: Losses) -> Balanced:
        """Return the weights of the losses that give the gradient of their logarithms: z / L, of sum 1."""
        values = losses.values.clamp_min(_SMALL_LOSS)
        self.before, self.counts = values.log(), losses.counts
        weights = self._shares() / values
        return Balanced(losses.given * weights / weights.sum().clamp_min(_SMALL_LOSS))

    def learn(self, values: Tensor) -> None:
        """Move the logits by how far each loss fell: `values (K,)` are of the same batch after the step."""
        fell = self.before - values.clamp_min(_SMALL_LOSS).log()
        z = self._shares()
        gradient = z * (fell - (z * fell).sum()) + self.weight_decay * self.logits
        self.steps += 1
        self.mean.lerp_(gradient, 0.1)
        self.square.lerp_(gradient.square(), 0.001)
        mean, square = self.mean / (1 - 0.9**self.steps), self.square / (1 - 0.999**self.steps)
        self.logits -= self.lr * mean / (square.sqrt() + 1e-8)

    def _shares(self) -> Tensor:
        """Return z (K,): 0 for losses that do not count, and for all where none does."""
        return self.logits.masked_fill(~self.counts, -torch.inf).softmax(0).nan_to_num()
