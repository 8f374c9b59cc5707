"""A small transformer on patches of the log-mel spectrogram (AST, arXiv:2104.01778), trained from scratch."""

from typing import Literal

from torch import nn

from mmexp.attention import masked_mean, pack, places_of, unpack
from mmexp.encoders.sound_encoder import SoundEncoder, frames_in
from mmexp.errors import RequestError
from mmexp.positions import NOWHERE, added, mark, related
from mmexp.transformer_block import Block
from mmexp.types import Encoded, Fraction, PositiveFloat, PositiveInt, Prepared


class SpectrogramTransformer(SoundEncoder):
    """Square patches of `patch` mel bands and frames of 10 ms, pooled as the mean of the real tokens.

    Of a sound it hears the first `seconds`, one channel at `rate` Hz; tokens of the silence that fills up a shorter one are
    masked. `grid` says how many rows (mel bands, the lowest first) and columns (time) of tokens there are, row-major.
    `positions` are added to the patches (`learned`, `sine`, `sincos2d`) or told to the attention, of bands and time (`relative`,
    `rotary`). `dropout` is of the patches with their positions and of what the blocks add to them.
    Raises RequestError for sizes that do not go together.
    """

    adapter_targets = r"blocks\.\d+\.(qkv|proj|fc1|fc2)"

    def __init__(
        self,
        rate: PositiveInt = 16000,
        seconds: PositiveFloat = 5.0,
        mels: PositiveInt = 64,
        patch: PositiveInt = 16,
        dim: PositiveInt = 192,
        depth: PositiveInt = 4,
        heads: PositiveInt = 3,
        positions: Literal["learned", "sine", "sincos2d", "relative", "rotary"] = "learned",
        dropout: Fraction = 0.0,
    ):
        if dim % heads:
            raise RequestError(f"dim={dim} does not divide into heads={heads}.")
        if mels % patch:
            raise RequestError(f"mels={mels} does not divide into patches of {patch} bands.")
        frames = frames_in(seconds, rate, patch)
        super().__init__(rate, mels, frames)
        self.dim, self.patch, self.grid = dim, patch, (mels // patch, frames // patch)
        self.embed = nn.Conv2d(1, dim, patch, stride=patch)
        self.positions = added(positions, self.grid, dim)
        self.relation = related(positions, self.grid, dim, heads)
        mark(self, positions)
        self.blocks = nn.ModuleList(Block(dim, heads, depth, dropout) for _ in range(depth))
        self.norm, self.dropout = nn.LayerNorm(dim), nn.Dropout(dropout)
        if positions == "learned" and self.positions is not None:
            nn.init.normal_(self.positions, std=0.02)

    def forward(self, prepared: Prepared) -> Encoded:
        """Encode `spectrogram (B, M, F)` with `mask (B, F)`, or `samples (B, T)`."""
        prepared = self.spectrogram(prepared["samples"]) if "samples" in prepared else prepared
        mask = self.spread(prepared["mask"].unflatten(1, (-1, self.patch)).any(2))
        tokens = self.embed(prepared["spectrogram"][:, None].to(self.embed.weight.dtype)).flatten(2).transpose(1, 2)
        places = places_of(mask)
        tokens = self.dropout(pack(tokens if self.positions is None else tokens + self.positions, places))
        relation = NOWHERE if self.relation is None else self.relation(mask.shape[1])
        for block in self.blocks:
            tokens = block(tokens, mask, places, relation)
        tokens = unpack(self.norm(tokens), places, mask)
        return Encoded(tokens, masked_mean(tokens, mask), mask)
