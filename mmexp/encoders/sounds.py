"""From sounds to log-mel spectrograms, as Kaldi computes them and AST hears them."""

from collections.abc import Sequence
from math import ceil, gcd, log

import numpy as np
import torch
from torch import Tensor

# Of AudioSet, over which AST normalises (arXiv:2104.01778): mean and deviation of the logarithms.
MEAN, STD = -4.2677393, 4.5689974
_LOWEST_HERTZ, _FLOOR, _PREEMPHASIS = 20.0, 1.192092955078125e-07, 0.97


def clip(samples: np.ndarray, rate: int, own_rate: int, length: int) -> np.ndarray:
    """Return the first `length` samples, at `own_rate`, of a sound (T,) at `rate`; silence follows where it is shorter."""
    from scipy.signal import resample_poly

    samples = samples[: ceil(length * rate / own_rate)]
    if rate != own_rate:
        common = gcd(rate, own_rate)
        samples = resample_poly(samples, own_rate // common, rate // common)
    samples = samples[:length].astype(np.float32)
    return np.pad(samples, (0, length - len(samples)))


def mel_filters(rate: int, bands: int, points: int) -> Tensor:
    """Return (points // 2 + 1, bands) weights of the bins of a transform of `points`: Kaldi's triangles on the mel scale."""

    def mel(hertz: Tensor | float) -> Tensor:
        return 1127 * torch.log1p(torch.as_tensor(hertz, dtype=torch.double) / 700)

    edges = torch.linspace(mel(_LOWEST_HERTZ), mel(rate / 2), bands + 2, dtype=torch.double)
    bins = mel(torch.linspace(0, rate / 2, points // 2 + 1, dtype=torch.double))[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp_min(0).float()


class LogMel:
    """Frames of 25 ms every 10 ms: mean removed, high tones raised, Hann window, power in mel bands, logarithm.

    The formulas of `torchaudio.compliance.kaldi.fbank` with AST's settings. Its tables are no buffers: a loader computes on
    the CPU, wherever and in whatever precision the encoder's weights are.
    """

    def __init__(self, rate: int, bands: int):
        self.width, self.hop = round(0.025 * rate), round(0.010 * rate)
        self.points = 2 ** ceil(log(self.width, 2))
        self.window = torch.hann_window(self.width, periodic=False)
        self.filters = mel_filters(rate, bands, self.points)

    def __call__(self, samples: Tensor) -> Tensor:
        """Return (B, bands, F) of `samples (B, T)` from -1 to 1, F = (T - width) // hop + 1, with AudioSet's mean at 0."""
        # One by one: the frames of a batch would take many times the memory of the result.
        logs = torch.stack([self._bands(row).clamp_min(_FLOOR).log() for row in samples])
        return (logs - MEAN) / (2 * STD)

    def _bands(self, samples: Tensor) -> Tensor:
        frames = samples.unfold(0, self.width, self.hop)
        frames = frames - frames.mean(1, keepdim=True)
        before = torch.cat([frames[:, :1], frames[:, :-1]], 1)
        frames = (frames - _PREEMPHASIS * before) * self.window.to(frames.device)
        power = torch.fft.rfft(frames, self.points).abs().square()
        return (power @ self.filters.to(power.device)).T


def heard(samples: Tensor, frames: int, hop: int) -> Tensor:
    """Return (B, frames) true for the first, and for frames that begin before the silence that fills `samples (B, T)` up."""
    to_come = samples.ne(0).flip(1).cummax(1).values.flip(1)
    real = to_come[:, : frames * hop : hop].clone()
    real[:, 0] = True
    return real


def raw(values: Sequence[tuple[np.ndarray, int]], own_rate: int, length: int) -> Tensor:
    """Return (B, length) of sounds, each samples (T,) and their rate."""
    return torch.from_numpy(np.stack([clip(samples, rate, own_rate, length) for samples, rate in values]))
