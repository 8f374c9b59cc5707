"""Concatenation of the pooled encodings, mixed by a small MLP."""

from collections.abc import Mapping

import torch
from torch import nn

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
        present = next(iter(encoded.values())).pooled
        parts = [
            project(encoded[name].pooled) if name in encoded else present.new_zeros(len(present), self.dim)
            for name, project in self.project.items()
        ]
        mask = torch.tensor([name in encoded for name in self.project], device=present.device)
        return Encoded(torch.stack(parts, 1), self.mix(torch.cat(parts, -1)), mask.expand(len(present), -1))
