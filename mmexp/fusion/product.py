"""The product of the pooled encodings: each modality gates every feature of the others."""

from collections.abc import Mapping
from functools import reduce

import torch
from torch import nn

from mmexp.fusion.poolings import kept, there
from mmexp.types import Encoded, PositiveInt


class ProductFusion(nn.Module):
    """Low-rank bilinear pooling (MLB, arXiv:1610.04325, eq. 8): `rank` features of each modality, multiplied, then mixed."""

    reads_pooled = True

    def __init__(self, dims: Mapping[str, int], dim: PositiveInt = 192, rank: PositiveInt = 384):
        super().__init__()
        self.dim = dim
        self.project = nn.ModuleDict({name: nn.Linear(dims[name], rank) for name in sorted(dims)})
        self.mix = nn.Linear(rank, dim)

    def forward(self, encoded: dict[str, Encoded]) -> Encoded:
        """Fuse `{modality: Encoded}`; a missing modality counts as ones. Tokens are one per modality there, (B, M, D)."""
        names = [name for name in self.project if name in encoded]
        factors = [kept(encoded[n], torch.tanh(self.project[n](encoded[n].pooled)), 1.0) for n in names]
        mask = there(names, encoded)
        return Encoded(self.mix(torch.stack(factors, 1)), self.mix(reduce(torch.mul, factors)), mask)
