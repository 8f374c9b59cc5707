"""Cross-attention: the tokens of each modality look at the tokens of all others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.attention import attention, masked_mean, pack, places_of, unpack
from mmexp.types import Encoded, PositiveInt


class CrossAttention(nn.Module):
    """One pre-norm block: queries from one modality, keys and values from the others, then an MLP."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_query, self.norm_context, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, stream: "Stream", contexts: Sequence["Stream"]) -> "Stream":
        """Return the stream enriched by what its tokens see in the tokens of `contexts`."""
        query = self._heads(stream, self.q(self.norm_query(stream.tokens)))
        both = [self._heads(c, self.kv(self.norm_context(c.tokens))) for c in contexts]
        key, value = torch.cat(both, 2).chunk(2, -1)
        seen = attention(query, key, value, torch.cat([c.mask for c in contexts], 1)).transpose(1, 2).flatten(2)
        tokens = stream.tokens + self.proj(pack(seen, stream.places))
        return replace(stream, tokens=tokens + self.fc2(F.gelu(self.fc1(self.norm_mlp(tokens)))))

    def _heads(self, stream: "Stream", x: Tensor) -> Tensor:
        return stream.padded(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)


@dataclass(frozen=True)
class Stream:
    """One modality's real tokens (T, D) in a row, `places (T,)` of the padded batch that `mask (B, N)` describes."""

    tokens: Tensor
    places: Tensor
    mask: Tensor

    def padded(self, x: Tensor) -> Tensor:
        """Return `x (T, E)` as (B, N, E)."""
        return unpack(x, self.places, self.mask)


class CrossAttentionFusion(nn.Module):
    """Co-attending streams as in ViLBERT (arXiv:1908.02265), `depth` blocks for each modality."""

    keeps_tokens = True
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
        streams = {name: self._stream(name, encoded[name]) for name in self.project if name in encoded}
        for block in self.blocks if len(streams) > 1 else ():
            streams = {
                name: block[name](stream, [other for o, other in streams.items() if o != name])
                for name, stream in streams.items()
            }
        tokens = {name: stream.padded(stream.tokens) for name, stream in streams.items()}
        pooled = [masked_mean(tokens[n], streams[n].mask) if n in tokens else None for n in self.project]
        blank = torch.zeros_like(next(p for p in pooled if p is not None))
        mixed = self.mix(self.norm(torch.cat([blank if p is None else p for p in pooled], -1)))
        masks = [stream.mask for stream in streams.values()]
        return Encoded(torch.cat(list(tokens.values()), 1), mixed, torch.cat(masks, 1), _places(tokens))

    def _stream(self, name: str, encoded: Encoded) -> Stream:
        places = places_of(encoded.mask)
        return Stream(self.project[name](pack(encoded.tokens, places)), places, encoded.mask)


def _places(tokens: Mapping[str, Tensor]) -> dict[str, slice]:
    """Return where each modality's tokens (B, N, D) stand when all are joined."""
    ends = list(accumulate(part.shape[1] for part in tokens.values()))
    return {name: slice(end - tokens[name].shape[1], end) for name, end in zip(tokens, ends, strict=True)}
