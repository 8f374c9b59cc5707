"""Cross-attention: the tokens of each modality look at the tokens of all others."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.attention import attention, masked_mean
from mmexp.types import Encoded, PositiveInt


class CrossAttention(nn.Module):
    """One pre-norm block: queries from one modality, keys and values from the others, then an MLP."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_query, self.norm_context, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, tokens: Tensor, context: Tensor, context_mask: Tensor) -> Tensor:
        """Return `tokens (B, N, D)` enriched by `context (B, M, D)`, of which `context_mask (B, M)` says what is real."""
        query = self._heads(self.q(self.norm_query(tokens)))
        key, value = map(self._heads, self.kv(self.norm_context(context)).chunk(2, -1))
        seen = attention(query, key, value, context_mask)
        tokens = tokens + self.proj(seen.transpose(1, 2).flatten(2))
        return tokens + self.fc2(F.gelu(self.fc1(self.norm_mlp(tokens))))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class CrossAttentionFusion(nn.Module):
    """Co-attending streams as in ViLBERT (arXiv:1908.02265), `depth` blocks for each modality."""

    adapter_targets = r".*\.(q|kv|proj|fc1|fc2)"

    def __init__(self, dims: Mapping[str, int], dim: PositiveInt = 192, heads: PositiveInt = 3, depth: PositiveInt = 1):
        super().__init__()
        self.dim = dim
        self.project = nn.ModuleDict({name: nn.Linear(dims[name], dim) for name in sorted(dims)})
        self.blocks: Any = nn.ModuleList(
            nn.ModuleDict({name: CrossAttention(dim, heads) for name in sorted(dims)}) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim * len(dims))
        self.mix = nn.Linear(dim * len(dims), dim)

    def forward(self, encoded: dict[str, Encoded]) -> Encoded:
        """Fuse `{modality: Encoded}`; with one modality alone its tokens pass unchanged, a missing one pools to zeros."""
        names = [name for name in self.project if name in encoded]
        tokens = {name: self.project[name](encoded[name].tokens) for name in names}
        masks = {name: encoded[name].mask for name in names}
        for block in self.blocks if len(names) > 1 else ():
            tokens = {name: self._look(block[name], name, tokens, masks) for name in names}
        pooled = [masked_mean(tokens[name], masks[name]) if name in tokens else None for name in self.project]
        blank = torch.zeros_like(next(p for p in pooled if p is not None))
        mixed = self.mix(self.norm(torch.cat([blank if p is None else p for p in pooled], -1)))
        return Encoded(torch.cat(list(tokens.values()), 1), mixed, torch.cat(list(masks.values()), 1))

    @staticmethod
    def _look(block: nn.Module, name: str, tokens: dict[str, Tensor], masks: dict[str, Tensor]) -> Tensor:
        others = [other for other in tokens if other != name]
        return block(tokens[name], torch.cat([tokens[o] for o in others], 1), torch.cat([masks[o] for o in others], 1))
