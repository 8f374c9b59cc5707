"""Low-rank fusion: the weights of all products of features, of one modality and of several, as a sum of few factors."""

from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor, nn

from mmexp.fusion.poolings import kept
from mmexp.types import Encoded, Fraction, PositiveInt


class BilinearFusion(nn.Module):
    """Low-rank multimodal fusion (LMF, arXiv:1806.00064): h = sum over r of the product over m of W_m^r [x_m; 1].

    It is `tensor` with a weight tensor of `rank`, never written out. The appended 1 keeps what one modality says by itself,
    which `product` (MLB) lacks, and what a missing one counts as: x = 0 leaves its factor the column of that 1.
    """

    reads_pooled = True
    adapter_targets = r"factors\.\w+"

    def __init__(self, dims: Mapping[str, int], dim: PositiveInt = 192, rank: PositiveInt = 4, dropout: Fraction = 0.0):
        super().__init__()
        self.dim, self.rank = dim, rank
        self.dims = {name: dims[name] for name in sorted(dims)}
        # The bias is the column of the appended 1.
        self.factors = nn.ModuleDict({name: nn.Linear(size, rank * dim) for name, size in self.dims.items()})
        self.weights = nn.Parameter(torch.ones(rank))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, encoded: dict[str, Encoded]) -> Encoded:
        """Fuse `{modality: Encoded}` into one token; a missing modality counts as zeros, beside its 1."""
        product = reduce(torch.mul, [self._factor(name, encoded) for name in self.dims])
        fused = self.dropout((product * self.weights[:, None]).sum(1) + self.bias)
        return Encoded(fused[:, None], fused, torch.ones(len(fused), 1, dtype=torch.bool, device=fused.device))

    def _factor(self, name: str, encoded: Mapping[str, Encoded]) -> Tensor:
        """Return (B, R, D)."""
        one, some = encoded.get(name), next(iter(encoded.values())).pooled
        pooled = some.new_zeros(len(some), self.dims[name]) if one is None else kept(one, one.pooled)
        return self.factors[name](pooled).unflatten(-1, (self.rank, self.dim))
