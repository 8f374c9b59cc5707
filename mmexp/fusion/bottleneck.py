"""Bottleneck fusion: each modality has a transformer of its own, and a few shared tokens carry everything between them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmexp.attention import masked_mean, pack, places_of, unpack
from mmexp.errors import RequestError
from mmexp.fusion.poolings import there
from mmexp.fusion.streams import Stream, check_heads, joined, projected_streams
from mmexp.transformer_block import Block
from mmexp.types import Encoded, PositiveInt


class BottleneckFusion(nn.Module):
    """Multimodal bottleneck transformer (MBT, arXiv:2107.00135, eq. 8 and 9).

    In each layer every modality's block sees its own tokens and the `bottlenecks`, as the layer before left them: the mean
    of what the modalities made of these. Pooled is the mean over the modalities of each one's mean token, as MBT averages
    their predictions. Raises RequestError for a depth of 1, in which nothing has come through the bottleneck yet.
    """

    keeps_tokens = True
    adapter_targets = r"blocks\.\d+\.\w+\.(qkv|proj|fc1|fc2)"

    def __init__(
        self,
        dims: Mapping[str, int],
        dim: PositiveInt = 192,
        heads: PositiveInt = 3,
        depth: PositiveInt = 2,
        bottlenecks: PositiveInt = 4,
    ):
        super().__init__()
        check_heads(dim, heads)
        if depth < 2:
            raise RequestError("fusion.depth=1: a bottleneck takes two layers, one in and one out. Set 2 or more.")
        self.dim = dim
        self.project = nn.ModuleDict({name: nn.Linear(dims[name], dim) for name in sorted(dims)})
        self.bottlenecks = nn.Parameter(torch.empty(bottlenecks, dim).normal_(std=0.02))
        self.blocks: Any = nn.ModuleList(
            nn.ModuleDict({name: Block(dim, heads, depth) for name in sorted(dims)}) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, encoded: dict[str, Encoded]) -> Encoded:
        """Fuse `{modality: Encoded}`; a missing modality has no say in the bottlenecks, nor in the mean."""
        streams = projected_streams(self.project, encoded)
        present = there(streams, encoded)
        shared = self.bottlenecks.expand(len(present), -1, -1)
        for block in self.blocks:
            both = [_together(block[n], s, shared, h) for (n, s), h in zip(streams.items(), present.T, strict=True)]
            streams = {name: stream for name, (stream, _) in zip(streams, both, strict=True)}
            made = torch.stack([own for _, own in both], 1)
            shared = masked_mean(made.flatten(2), present).unflatten(-1, shared.shape[1:])
        streams = {name: replace(stream, tokens=self.norm(stream.tokens)) for name, stream in streams.items()}
        tokens, mask, parts = joined(streams)
        means = [masked_mean(tokens[:, part], mask[:, part]) for part in parts.values()]
        return Encoded(tokens, masked_mean(torch.stack(means, 1), present), mask, parts)


def _together(block: nn.Module, stream: Stream, shared: Tensor, has: Tensor) -> tuple[Stream, Tensor]:
    """Return a stream and the `shared` tokens (B, K, D) after they looked at each other, in the rows that have it (B,)."""
    length = stream.mask.shape[1]
    mask = torch.cat([stream.mask, has[:, None].expand(-1, shared.shape[1])], 1)
    places = places_of(mask)
    both = torch.cat([stream.padded(stream.tokens), shared], 1)
    both = unpack(block(pack(both, places), mask, places), places, mask)
    return replace(stream, tokens=pack(both[:, :length], stream.places)), both[:, length:]
