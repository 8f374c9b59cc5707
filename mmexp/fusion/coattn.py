"""Co-attention: one affinity of all pairs of tokens, read in both directions."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.attention import attention, pack
from mmexp.fusion.poolings import shares
from mmexp.fusion.streams import Stream, check_heads, joined, projected_streams
from mmexp.types import Encoded, Fraction, PositiveInt


class Sight(NamedTuple):
    """What is to be seen in a modality: `keys` and `values (B, H, N + K, d)`, the K of nowhere last; `mask` of real ones."""

    keys: Tensor
    values: Tensor
    mask: Tensor


class CoAttention(nn.Module):
    """One layer: each token gets, beside what it is, what it sees in each other modality.

    The affinity of two tokens is the product of what `look` makes of both, in each head; it is normalised over the tokens of
    the one modality and over those of the other. Every modality has `nowhere` learned vectors beside its tokens, at which
    tokens look that find nothing there.
    """

    def __init__(self, names: list[str], dim: int, heads: int, nowhere: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.norm = nn.ModuleDict({name: nn.LayerNorm(dim) for name in names})
        self.look = nn.ModuleDict({name: nn.Linear(dim, dim) for name in names})
        self.mix = nn.ModuleDict({name: nn.Linear(dim * len(names), dim) for name in names})
        self.nowhere = nn.ParameterDict({name: nn.Parameter(torch.empty(nowhere, dim).normal_()) for name in names})
        self.dropout = nn.Dropout(dropout)

    def forward(self, streams: Mapping[str, Stream]) -> dict[str, Stream]:
        """Return the streams, each enriched by what its tokens see in every other modality, missing ones included."""
        normed = {name: replace(s, tokens=self.norm[name](s.tokens)) for name, s in streams.items()}
        rows = len(next(iter(streams.values())).mask)
        sights = {name: self._sight(name, normed.get(name), rows) for name in self.look}
        return {name: self._enriched(name, stream, normed[name].tokens, sights) for name, stream in streams.items()}

    def _sight(self, name: str, stream: Stream | None, rows: int) -> Sight:
        nowhere = self.nowhere[name]
        both = (self.look[name](nowhere), nowhere)
        keys, values = (x.unflatten(-1, (self.heads, -1)).transpose(0, 1).expand(rows, -1, -1, -1) for x in both)
        mask = torch.ones(rows, len(nowhere), dtype=torch.bool, device=nowhere.device)
        if stream is None:
            return Sight(keys, values, mask)
        own = (self.look[name](stream.tokens), stream.tokens)
        keys, values = (
            torch.cat([stream.heads(x, self.heads), y], 2) for x, y in zip(own, (keys, values), strict=True)
        )
        return Sight(keys, values, torch.cat([stream.mask, mask], 1))

    def _enriched(self, name: str, stream: Stream, normed: Tensor, sights: Mapping[str, Sight]) -> Stream:
        query = sights[name].keys[:, :, : stream.mask.shape[1]]
        seen = [attention(query, *sight).transpose(1, 2).flatten(2) for other, sight in sights.items() if other != name]
        mixed = self.mix[name](torch.cat([normed, *(pack(one, stream.places) for one in seen)], -1))
        return replace(stream, tokens=stream.tokens + self.dropout(F.relu(mixed)))


class CoAttentionFusion(nn.Module):
    """Dense symmetric co-attention (DCN, arXiv:1804.00775): `depth` layers, then each modality is summed up and the sums added.

    `xattn` has queries, keys and values of each modality's own for either direction, and an MLP; here one affinity serves both
    directions and features are looked at as they are. The heads see slices of the features, as a transformer's do, where DCN
    averages maps; norms are added, before each layer and at the end. A modality is summed up by a learned score of its tokens.
    """

    keeps_tokens = True
    adapter_targets = r"layers\.\d+\.(look|mix)\.\w+"

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: PositiveInt = 192,
        heads: PositiveInt = 3,
        depth: PositiveInt = 2,
        nowhere: PositiveInt = 3,
        dropout: Fraction = 0.0,
    ):
        super().__init__()
        check_heads(dim, heads)
        self.dim = dim
        names = sorted(dims)
        self.project = nn.ModuleDict({name: nn.Linear(dims[name], dim) for name in names})
        # One modality has nobody to look at.
        layers = depth if len(dims) > 1 else 0
        self.layers: Any = nn.ModuleList(CoAttention(names, dim, heads, nowhere, dropout) for _ in range(layers))
        # A softmax takes no notice of a bias.
        self.score = nn.ModuleDict({name: nn.Linear(dim, 1, bias=False) for name in names})
        self.norm = nn.LayerNorm(dim)

    def forward(self, encoded: dict[str, Encoded]) -> Encoded:
        """Fuse `{modality: Encoded}`; of a missing one tokens see the learned nowhere alone, and its sum is left out."""
        streams = projected_streams(self.project, encoded)
        for layer in self.layers:
            streams = layer(streams)
        tokens, mask, parts = joined(streams)
        sums = [self._sum(name, tokens[:, part], mask[:, part]) for name, part in parts.items()]
        return Encoded(tokens, self.norm(torch.stack(sums).sum(0)), mask, parts)

    def _sum(self, name: str, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return the tokens (B, D) of one modality, weighed and added up; zeros where there is none."""
        share = shares(self.score[name](tokens).squeeze(-1), mask).to(tokens.dtype)
        return (share.unsqueeze(-1) * tokens).sum(1)
