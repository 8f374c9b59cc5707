"""A small transformer on patches of the log-mel spectrogram (AST, arXiv:2104.01778), trained from scratch."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from mmexp.attention import masked_mean, pack, places_of, unpack
from mmexp.encoders.sounds import LogMel, heard, raw
from mmexp.errors import RequestError
from mmexp.positions import NOWHERE, added, related
from mmexp.transformer_block import Block
from mmexp.types import Encoded, Fraction, PositiveFloat, PositiveInt, Prepared


class SpectrogramTransformer(nn.Module):
    """Square patches of `patch` mel bands and frames of 10 ms, pooled as the mean of the real tokens.

    Of a sound it hears the first `seconds`, one channel at `rate` Hz; tokens of the silence that fills up a shorter one are
    masked. `grid` says how many rows (mel bands, the lowest first) and columns (time) of tokens there are, row-major.
    `positions` are added to the patches (`learned`, `sine`, `sincos2d`) or told to the attention, of bands and time (`relative`,
    `rotary`). `dropout` is of the patches with their positions and of what the blocks add to them.
    Raises RequestError for sizes that do not go together.
    """

    modality = "audio"
    pretrained = False
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
        super().__init__()
        if dim % heads:
            raise RequestError(f"dim={dim} does not divide into heads={heads}.")
        if mels % patch:
            raise RequestError(f"mels={mels} does not divide into patches of {patch} bands.")
        self.log_mel = LogMel(rate, mels)
        columns = (int(seconds * rate) - self.log_mel.width + self.log_mel.hop) // (patch * self.log_mel.hop)
        if columns < 1:
            raise RequestError(f"seconds={seconds} is less than a patch of {patch} frames of 10 ms.")
        self.rate, self.dim, self.patch, self.positioned = rate, dim, patch, positions
        self.grid, self.spectrogram_size = (mels // patch, columns), (mels, columns * patch)
        self.length = (columns * patch - 1) * self.log_mel.hop + self.log_mel.width
        self.embed = nn.Conv2d(1, dim, patch, stride=patch)
        self.positions = added(positions, self.grid, dim)
        self.relation = related(positions, self.grid, dim, heads)
        self.blocks = nn.ModuleList(Block(dim, heads, depth, dropout) for _ in range(depth))
        self.norm, self.dropout = nn.LayerNorm(dim), nn.Dropout(dropout)
        if positions == "learned" and self.positions is not None:
            nn.init.normal_(self.positions, std=0.02)

    def prepare(self, values: Sequence[Any]) -> Prepared:
        """Return `samples (B, T)` of sounds, each (samples (T,) float32, their rate in Hz)."""
        return {"samples": raw(values, self.rate, self.length)}

    def spectrogram(self, samples: Tensor) -> Prepared:
        """Return `spectrogram (B, M, F)` of `samples (B, T)`, and `mask (B, F)`."""
        spectrogram = self.log_mel(samples)
        return {"spectrogram": spectrogram, "mask": heard(samples, spectrogram.shape[2], self.log_mel.hop)}

    def forward(self, prepared: Prepared) -> Encoded:
        """Encode `spectrogram (B, M, F)` with `mask (B, F)`, or `samples (B, T)`."""
        prepared = self.spectrogram(prepared["samples"]) if "samples" in prepared else prepared
        mask = self._real(prepared["mask"])
        tokens = self.embed(prepared["spectrogram"][:, None].to(self.embed.weight.dtype)).flatten(2).transpose(1, 2)
        places = places_of(mask)
        tokens = self.dropout(pack(tokens if self.positions is None else tokens + self.positions, places))
        relation = NOWHERE if self.relation is None else self.relation(mask.shape[1])
        for block in self.blocks:
            tokens = block(tokens, mask, places, relation)
        tokens = unpack(self.norm(tokens), places, mask)
        return Encoded(tokens, masked_mean(tokens, mask), mask)

    def _real(self, frames: Tensor) -> Tensor:
        """Return which tokens (B, N) have a real frame, of `frames (B, F)`."""
        columns = frames.unflatten(1, (-1, self.patch)).any(2)
        return columns[:, None].expand(-1, self.grid[0], -1).flatten(1)
