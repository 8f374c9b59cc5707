"""Concatenation of the pooled encodings, mixed by a small MLP."""

from collections.abc import Mapping

from torch import nn

from mmexp.fusion.poolings import projected
from mmexp.types import Encoded, PositiveInt


class ConcatFusion(nn.Module):
    """Late fusion as in torchmultimodal's `late_fusion`: project each modality, concatenate in sorted order, mix."""

    reads_pooled = True

    def __init__(self, dims: Mapping[str, int], dim: PositiveInt = 192, hidden: PositiveInt = 384):
        super().__init__()
        self.dim = dim
        self.project = nn.ModuleDict({name: nn.Linear(dims[name], dim) for name in sorted(dims)})
        self.mix = nn.Sequential(nn.Linear(dim * len(dims), hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, encoded: dict[str, Encoded]) -> Encoded:
        """Fuse `{modality: Encoded}`; a missing modality counts as zeros. Tokens are one per modality, (B, M, D)."""
        vectors, there = projected(self.project, encoded)
        return Encoded(vectors, self.mix(vectors.flatten(1)), there)
