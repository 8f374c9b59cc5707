"""The weighted sum of the pooled encodings in one common width, then a non-linear layer in which they meet."""

from collections.abc import Mapping
from typing import Literal

from torch import nn
from torch.nn import functional as F

from mmexp.fusion.poolings import WeightedMean, projected
from mmexp.types import Encoded, PositiveInt


class SumFusion(nn.Module):
    """Project each modality, add up by `weights` that sum to 1, mix.

    The weights are learned, one a modality, or equal: the mean over whatever modalities there are, as in HeMIS
    (arXiv:1607.05194).
    """

    reads_pooled = True
    adapter_targets = r"project\.\w+|mix"

    def __init__(
        self, dims: Mapping[str, int], dim: PositiveInt = 192, weights: Literal["learned", "equal"] = "learned"
    ):
        super().__init__()
        self.dim = dim
        self.project = nn.ModuleDict({name: nn.Linear(dims[name], dim) for name in sorted(dims)})
        self.mean = WeightedMean(len(dims), weights == "learned")
        self.mix = nn.Linear(dim, dim)

    def forward(self, encoded: dict[str, Encoded]) -> Encoded:
        """Fuse `{modality: Encoded}`; the weights of a row sum to 1 without a missing one. Tokens are one per modality."""
        vectors, there = projected(self.project, encoded)
        return Encoded(vectors, self.mix(F.gelu(self.mean(vectors, there))), there)
