"""Gated fusion: for every feature, gates that look at all modalities say how much of it each one gives."""

from collections.abc import Mapping

import torch
from torch import nn

from mmexp.fusion.poolings import kept, projected, shares
from mmexp.types import Encoded, PositiveInt


class GatedFusion(nn.Module):
    """Gated multimodal unit (GMU, arXiv:1702.01992): h = sum over m of z_m * tanh(W_m x_m), gates z from all poolings.

    The gates of a feature sum to 1, a softmax over the modalities: of two that is the paper's z and 1 - z. A missing modality
    is zeros to the gates, and gets no share.
    """

    reads_pooled = True
    adapter_targets = r"project\.\w+|gate"

    def __init__(self, dims: Mapping[str, int], dim: PositiveInt = 192):
        super().__init__()
        self.dim = dim
        self.dims = {name: dims[name] for name in sorted(dims)}
        self.project = nn.ModuleDict({name: nn.Linear(size, dim) for name, size in self.dims.items()})
        # Of one modality alone the gate is 1.
        self.gate = nn.Linear(sum(self.dims.values()), dim * len(dims)) if len(dims) > 1 else None

    def forward(self, encoded: dict[str, Encoded]) -> Encoded:
        """Fuse `{modality: Encoded}`. Tokens are one per modality, (B, M, D)."""
        vectors, there = projected(self.project, encoded)
        features = torch.tanh(vectors)
        if self.gate is None:
            return Encoded(features, features[:, 0], there)
        scores = self.gate(self._side_by_side(encoded)).unflatten(-1, (self.dim, len(self.dims)))
        gates = shares(scores, there[:, None]).transpose(1, 2)
        return Encoded(features, (gates * features).sum(1), there)

    def _side_by_side(self, encoded: Mapping[str, Encoded]) -> torch.Tensor:
        some = next(iter(encoded.values())).pooled
        return torch.cat(
            [
                kept(encoded[name], encoded[name].pooled) if name in encoded else some.new_zeros(len(some), size)
                for name, size in self.dims.items()
            ],
            -1,
        )
