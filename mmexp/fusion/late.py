"""Late fusion: each modality predicts alone, and the predictions are averaged."""

from collections.abc import Mapping
from typing import Literal

from torch import nn

from mmexp.fusion.poolings import WeightedMean, projected
from mmexp.types import Encoded, PositiveInt


class LateFusion(nn.Module):
    """The weighted mean of the projected poolings, on which a linear head gives the weighted mean of predictions.

    With weights w that sum to 1, head(sum w_m x_m) = sum w_m head(x_m): the logits of each modality, averaged (a logarithmic
    opinion pool). The head is the objective's and linear; each modality's own is its projection followed by that. So no
    modality changes what another one says, and what takes two of them to know cannot be learned. `weights` are learned, one a
    modality, or equal.
    """

    reads_pooled = True
    adapter_targets = r"project\.\w+"

    def __init__(
        self, dims: Mapping[str, int], dim: PositiveInt = 192, weights: Literal["learned", "equal"] = "learned"
    ):
        super().__init__()
        self.dim = dim
        self.project = nn.ModuleDict({name: nn.Linear(dims[name], dim) for name in sorted(dims)})
        self.mean = WeightedMean(len(dims), weights == "learned")

    def forward(self, encoded: dict[str, Encoded]) -> Encoded:
        """Fuse `{modality: Encoded}`; a missing modality has no say, and the weights of the others sum to 1.

        Tokens are one per modality, (B, M, D): what a head makes of each is that modality's own prediction.
        """
        vectors, there = projected(self.project, encoded)
        return Encoded(vectors, self.mean(vectors, there), there)
