"""Bands of a spectrogram hidden in frequency and in time (SpecAugment, arXiv:1904.08779, without its time warping)."""

import torch
from torch import Tensor

from mmexp.types import Draws, Fraction, NonNegativeInt


class SpecAugment:
    """Hide `bands` of frequencies and `gaps` of time; each is of 0 up to `band` or `gap` of the whole, as parts of 1.

    It acts on what an audio encoder hears, after `noise` and `shift` have changed the waveform. Hidden places take the mean
    of their own spectrogram (for one of mean 0, the paper's 0).
    """

    modality = "spectrogram"

    def __init__(self, bands: NonNegativeInt = 2, band: Fraction = 0.2, gaps: NonNegativeInt = 2, gap: Fraction = 0.2):
        self.bands, self.band, self.gaps, self.gap = bands, band, gaps, gap

    def __call__(self, spectrograms: Tensor, draws: Draws) -> Tensor:
        """Return float32 (B, F, T) of float32 (B, F, T)."""
        _, frequencies, times = spectrograms.shape
        lost = hidden(draws, "frequency bands", self.bands, self.band, frequencies)[:, :, None]
        lost = lost | hidden(draws, "time gaps", self.gaps, self.gap, times)[:, None]
        return torch.where(lost, spectrograms.mean((1, 2), keepdim=True), spectrograms)


def hidden(draws: Draws, name: str, count: int, most: float, length: int) -> Tensor:
    """Return (B, length) true within `count` stretches, each of 0 up to `most` of the length, all equally likely."""
    width, start = torch.from_numpy(draws(name, 2 * count)).split([count, count], 1)
    width = (width * (int(most * length) + 1)).floor()
    start = (start * (length - width + 1)).floor()
    place = torch.arange(length)
    return ((place >= start[..., None]) & (place < (start + width)[..., None])).any(1)
