"""A small text transformer, trained from scratch."""

from typing import Literal

import torch
from torch import nn

from mmexp.attention import masked_mean, pack, places_of, unpack
from mmexp.encoders.text_encoder import TextEncoder
from mmexp.errors import RequestError
from mmexp.positions import NOWHERE, added, mark, related
from mmexp.rows import look_up
from mmexp.transformer_block import Block
from mmexp.types import Encoded, Fraction, PositiveInt, Prepared

# Wide against what the blocks add at first: captions that share words start out alike.
_WORDS = 0.3


class Transformer(TextEncoder):
    """Bidirectional, pooled as the mean of the real tokens after the last norm.

    `positions` are added to the words (`learned`, `sine`) or told to the attention (`relative`, `rotary`). `dropout` is of
    the words with their positions and of what the blocks add to them. Raises RequestError for sizes that do not go together.
    """

    adapter_targets = r"blocks\.\d+\.(qkv|proj|fc1|fc2)"

    def __init__(
        self,
        dim: PositiveInt = 192,
        depth: PositiveInt = 2,
        heads: PositiveInt = 3,
        context_length: PositiveInt = 48,
        tokenizer: str | None = None,
        positions: Literal["learned", "sine", "relative", "rotary"] = "learned",
        dropout: Fraction = 0.0,
    ):
        if dim % heads:
            raise RequestError(f"dim={dim} does not divide into heads={heads}.")
        super().__init__(dim, context_length, tokenizer)
        self.dropout = nn.Dropout(dropout)
        self.embed = nn.Embedding(self.vocab_size, dim)
        # As wide against the words as in arXiv:1706.03762, whose words have a deviation of 1.
        self.positions = added(positions, (context_length,), dim, _WORDS)
        self.relation = related(positions, (context_length,), dim, heads)
        mark(self, positions)
        self.blocks = nn.ModuleList(Block(dim, heads, depth, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        nn.init.normal_(self.embed.weight, std=_WORDS)
        if positions == "learned" and self.positions is not None:
            nn.init.normal_(self.positions, std=0.01)

    def forward(self, prepared: Prepared) -> Encoded:
        """Encode `ids (B, N)` with `mask (B, N)`, N at most `context`; `added (B, N, dim)` is added to the words' vectors."""
        ids, mask = prepared["ids"], prepared["mask"]
        places, length = places_of(mask), ids.shape[1]
        tokens = self.embed(ids.flatten()[places])
        if self.positions is not None:
            columns = torch.arange(length, device=ids.device).expand_as(ids).flatten()[places]
            tokens = tokens + look_up(self.positions, columns)
        if "added" in prepared:
            tokens = tokens + pack(prepared["added"], places)
        tokens = self.dropout(tokens)
        relation = NOWHERE if self.relation is None else self.relation(length)
        for block in self.blocks:
            tokens = block(tokens, mask, places, relation)
        tokens = unpack(self.norm(tokens), places, mask)
        return Encoded(tokens, masked_mean(tokens, mask), mask)
