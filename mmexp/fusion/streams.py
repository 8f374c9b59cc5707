"""What fusions of tokens share: each modality's real tokens in a row, and how they stand side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.attention import attention, pack, places_of, unpack
from mmexp.errors import RequestError
from mmexp.types import Encoded


@dataclass(frozen=True)
class Stream:
    """One modality's real tokens (T, D) in a row, `places (T,)` of the padded batch that `mask (B, N)` describes."""

    tokens: Tensor
    places: Tensor
    mask: Tensor

    def padded(self, x: Tensor) -> Tensor:
        """Return `x (T, E)` as (B, N, E)."""
        return unpack(x, self.places, self.mask)

    def heads(self, x: Tensor, heads: int) -> Tensor:
        """Return `x (T, E)` as (B, H, N, E / H)."""
        return self.padded(x).unflatten(-1, (heads, -1)).transpose(1, 2)


def projected_streams(project: nn.ModuleDict, encoded: Mapping[str, Encoded]) -> dict[str, Stream]:
    """Return the projected tokens of the modalities that the batch holds, in the order of `project`."""
    streams = {}
    for name in project:
        if name in encoded:
            places = places_of(encoded[name].mask)
            streams[name] = Stream(project[name](pack(encoded[name].tokens, places)), places, encoded[name].mask)
    return streams


def joined(streams: Mapping[str, Stream]) -> tuple[Tensor, Tensor, dict[str, slice]]:
    """Return all tokens side by side (B, N, D), their mask (B, N), and where those of each modality stand."""
    tokens = [stream.padded(stream.tokens) for stream in streams.values()]
    ends = list(accumulate(part.shape[1] for part in tokens))
    parts = {name: slice(end - t.shape[1], end) for name, t, end in zip(streams, tokens, ends, strict=True)}
    return torch.cat(tokens, 1), torch.cat([stream.mask for stream in streams.values()], 1), parts


class CrossAttention(nn.Module):
    """One pre-norm block: queries from one modality, keys and values from the others, then an MLP."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_query, self.norm_context, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.fc1, self.fc2 = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, stream: Stream, contexts: Sequence[Stream], alone: Tensor | None = None) -> Stream:
        """Return the stream enriched by what its tokens see in the tokens of `contexts`.

        Rows that are `alone (B,)`, with nothing to see, stay as they are.
        """
        query = stream.heads(self.q(self.norm_query(stream.tokens)), self.heads)
        both = [context.heads(self.kv(self.norm_context(context.tokens)), self.heads) for context in contexts]
        key, value = torch.cat(both, 2).chunk(2, -1)
        mask = torch.cat([context.mask for context in contexts], 1)
        if alone is not None:
            mask = mask | alone[:, None]  # a softmax over nothing would be NaN
        seen = attention(query, key, value, mask).transpose(1, 2).flatten(2)
        tokens = stream.tokens + self.proj(pack(seen, stream.places))
        tokens = tokens + self.fc2(F.gelu(self.fc1(self.norm_mlp(tokens))))
        if alone is not None:
            still = alone[stream.places // stream.mask.shape[1]]
            tokens = torch.where(still[:, None], stream.tokens, tokens)
        return replace(stream, tokens=tokens)


def check_heads(dim: int, heads: int) -> None:
    """Raise RequestError where a width cannot be shared out among heads."""
    if dim % heads:
        raise RequestError(f"fusion.dim={dim} does not divide into fusion.heads={heads}.")
