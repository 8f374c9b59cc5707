"""The shortest mean of the losses' gradients: no loss grows by it (MGDA, arXiv:1810.04650)."""

import torch
from torch import Tensor, nn

from mmexp.step import Balanced, Losses
from mmexp.types import PositiveInt


def shortest(products: Tensor, iterations: int, tolerance: float = 1e-6) -> Tensor:
    """Return weights (K,), of sum 1, of the shortest vector between K vectors with these `products (K, K)`.

    Frank-Wolfe with exact line search as in the paper's algorithm 2, but in pairs (arXiv:1511.05932): weight goes from the
    worst vector to the best, which takes tens of steps where the plain form takes thousands. For two the first is exact.
    """
    weights = torch.full((len(products),), 1 / len(products), dtype=products.dtype)
    for _ in range(iterations):
        slope = products @ weights
        best, worst = int(slope.argmin()), int(slope.masked_fill(weights == 0, -torch.inf).argmax())
        gap = slope[worst] - slope[best]
        if gap <= tolerance * (weights @ slope).clamp_min(0):
            break
        apart = products[best, best] - 2 * products[best, worst] + products[worst, worst]
        step = torch.minimum(gap / apart, weights[worst])
        weights[best] += step
        weights[worst] -= step
    return weights


class MGDA(nn.Module):
    """Joins the stated weights' gradients on the shared model; heads follow their own loss by its stated weight.

    A loss without gradient in a step, such as one that a curriculum holds back, is left out: it would end all learning.
    """

    needs = ("shared",)

    def __init__(self, *, iterations: PositiveInt = 250):
        super().__init__()
        self.iterations = iterations

    def forward(self, losses: Losses) -> Balanced:
        """Return the stated weights, and those of the shortest gradient."""
        given = losses.given.double().cpu()
        products = losses.products * given.outer(given)
        shares, pulling = torch.zeros_like(given), products.diag() > 0
        if pulling.any():
            shares[pulling] = shortest(products[pulling][:, pulling], self.iterations)
        return Balanced(losses.given, shared=losses.given * shares.to(losses.given))
