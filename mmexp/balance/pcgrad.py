"""Each loss's gradient gives up what works against another's (PCGrad, arXiv:2001.06782)."""

import torch
from torch import Tensor, nn

from mmexp.step import Balanced, Losses


def projected(products: Tensor, generator: torch.Generator) -> Tensor:
    """Return how often (K,) each gradient counts in the sum of the projected ones (the paper's algorithm 1).

    A projected gradient is a sum of the K gradients, so that their `products (K, K)` are all one has to know of them.
    """
    count = len(products)
    kept = torch.eye(count, dtype=products.dtype)
    for own in range(count):
        for other in torch.randperm(count, generator=generator).tolist():
            along = kept[own] @ products[other]
            if other != own and along < 0:
                kept[own, other] -= along / products[other, other]
    return kept.sum(0)


class PCGrad(nn.Module):
    """Projects the stated weights' gradients on the shared model; heads follow their own loss by its stated weight."""

    needs = ("shared",)

    def forward(self, losses: Losses) -> Balanced:
        """Return the stated weights, and those of the projected gradients."""
        given = losses.given.double().cpu()
        shares = projected(losses.products * given.outer(given), losses.generator)
        return Balanced(losses.given, shared=losses.given * shares.to(losses.given))
