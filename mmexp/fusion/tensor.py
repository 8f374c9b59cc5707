"""Tensor fusion: all products of features, of one modality, of two, and so on up to all."""

from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.errors import RequestError
from mmexp.fusion.poolings import projected
from mmexp.types import Encoded, Fraction, PositiveInt


def outer(left: Tensor, right: Tensor) -> Tensor:
    """Return all products (B, I * J) of the features of `left (B, I)` and `right (B, J)`."""
    return (left[:, :, None] * right[:, None]).flatten(1)


class TensorFusion(nn.Module):
    """Tensor fusion network (TFN, arXiv:1707.07250): the outer product of [x_m; 1] over all modalities, mixed.

    Each modality is projected first, to the largest width with which there are at most `products` of features: 31 of two
    modalities with 1024, 9 of three. Raises RequestError where that leaves a modality no feature at all.
    """

    reads_pooled = True
    adapter_targets = r"project\.\w+|mix"

    def __init__(
        self, dims: Mapping[str, int], dim: PositiveInt = 192, products: PositiveInt = 1024, dropout: Fraction = 0.0
    ):
        super().__init__()
        width = next((w for w in range(dim, 0, -1) if (w + 1) ** len(dims) <= products), 0)
        if not width:
            raise RequestError(
                f"fusion.products={products} is too few for {len(dims)} modalities. Set {2 ** len(dims)} or more."
            )
        self.dim = dim
        self.project = nn.ModuleDict({name: nn.Linear(dims[name], width) for name in sorted(dims)})
        self.dropout = nn.Dropout(dropout)
        self.mix = nn.Linear((width + 1) ** len(dims), dim)

    def forward(self, encoded: dict[str, Encoded]) -> Encoded:
        """Fuse `{modality: Encoded}` into one token; of a missing modality the 1 is left: the products of the others."""
        vectors, _ = projected(self.project, encoded)
        products = reduce(outer, F.pad(vectors, (0, 1), value=1.0).unbind(1))
        fused = self.mix(self.dropout(products))
        return Encoded(fused[:, None], fused, torch.ones(len(fused), 1, dtype=torch.bool, device=fused.device))
