"""Cross-attention: the tokens of each modality look at the tokens of all others."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmexp.attention import masked_mean
from mmexp.fusion.poolings import there
from mmexp.fusion.streams import CrossAttention, check_heads, joined, projected_streams
from mmexp.types import Encoded, PositiveInt


class CrossAttentionFusion(nn.Module):
    """Co-attending streams as in ViLBERT (arXiv:1908.02265), `depth` blocks for each modality.

    Each modality has queries, keys and values of its own; `coattn` has one affinity for both directions instead.
    """

    keeps_tokens = True
    adapter_targets = r".*\.(q|kv|proj|fc1|fc2)"

    def __init__(self, dims: Mapping[str, int], dim: PositiveInt = 192, heads: PositiveInt = 3, depth: PositiveInt = 1):
        super().__init__()
        check_heads(dim, heads)
        self.dim = dim
        self.project = nn.ModuleDict({name: nn.Linear(dims[name], dim) for name in sorted(dims)})
        # One modality has nobody to look at.
        self.blocks: Any = nn.ModuleList(
            nn.ModuleDict({name: CrossAttention(dim, heads) for name in sorted(dims)})
            for _ in range(depth if len(dims) > 1 else 0)
        )
        self.norm = nn.LayerNorm(dim * len(dims))
        self.mix = nn.Linear(dim * len(dims), dim)

    def forward(self, encoded: dict[str, Encoded]) -> Encoded:
        """Fuse `{modality: Encoded}`; a missing one is not looked at and pools to zeros, one alone keeps its tokens."""
        streams, alone = projected_streams(self.project, encoded), _alone(encoded)
        for block in self.blocks if len(streams) > 1 else ():
            streams = {
                name: block[name](stream, [other for o, other in streams.items() if o != name], alone)
                for name, stream in streams.items()
            }
        tokens, mask, parts = joined(streams)
        pooled = [masked_mean(tokens[:, parts[n]], mask[:, parts[n]]) if n in parts else None for n in self.project]
        blank = torch.zeros_like(next(p for p in pooled if p is not None))
        mixed = self.mix(self.norm(torch.cat([blank if p is None else p for p in pooled], -1)))
        return Encoded(tokens, mixed, mask, parts)


def _alone(encoded: Mapping[str, Encoded]) -> Tensor | None:
    """Return (B,) true for rows of a single modality, None where no row lacks any that the batch holds."""
    if all(one.present is None for one in encoded.values()):
        return None
    return there(encoded, encoded).sum(1) < 2
