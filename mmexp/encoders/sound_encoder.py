"""What encoders of log-mel spectrograms share: preparing clips, the spectrogram with its mask, which cells of a grid are real."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmexp.encoders.sounds import LogMel, heard, raw
from mmexp.errors import RequestError
from mmexp.types import Prepared


class SoundEncoder(nn.Module):
    """Hears the first `frames` frames of 10 ms of a sound at `rate` Hz, in `mels` bands.

    Subclasses set `grid`, the rows (mel bands, the lowest first) and columns (time) of their tokens, row-major, and `dim`.
    """

    modality = "audio"
    pretrained = False
    grid: tuple[int, ...]
    spectrogram_size: tuple[int, int] | None
    dim: int

    def __init__(self, rate: int, mels: int, frames: int):
        super().__init__()
        self.rate, self.log_mel = rate, LogMel(rate, mels)
        self.spectrogram_size = (mels, frames)
        self.length = (frames - 1) * self.log_mel.hop + self.log_mel.width

    def prepare(self, values: Sequence[Any]) -> Prepared:
        """Return `samples (B, T)` of sounds, each (samples (T,) float32, their rate in Hz)."""
        return {"samples": raw(values, self.rate, self.length)}

    def spectrogram(self, samples: Tensor) -> Prepared:
        """Return `spectrogram (B, M, F)` of `samples (B, T)`, and `mask (B, F)`."""
        spectrogram = self.log_mel(samples)
        return {"spectrogram": spectrogram, "mask": heard(samples, spectrogram.shape[2], self.log_mel.hop)}

    def spread(self, columns: Tensor) -> Tensor:
        """Return which tokens (B, N) are real, of `columns (B, C)` of the grid."""
        return columns[:, None].expand(-1, self.grid[0], -1).flatten(1)


def frames_in(seconds: float, rate: int, stride: int) -> int:
    """Return the most frames of 10 ms, a multiple of `stride`, that lie whole within `seconds`. Raises RequestError for none."""
    width, hop = LogMel(rate, 1).width, LogMel(rate, 1).hop
    columns = (int(seconds * rate) - width + hop) // (stride * hop)
    if columns < 1:
        raise RequestError(f"seconds={seconds} is less than a column of {stride} frames of 10 ms.")
    return columns * stride


def blank_clip(encoder: Any) -> Prepared:
    """Return a clip (1, T) that is heard whole."""
    return {"samples": torch.full((1, encoder.length), 0.1)}
