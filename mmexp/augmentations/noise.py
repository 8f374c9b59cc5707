"""White noise beneath a sound, by its signal-to-noise ratio."""

import numpy as np
import torch
from torch import Tensor

from mmexp.draws import generators
from mmexp.types import Draws, Fraction


class Noise:
    """Add Gaussian noise to a `share` of the sounds; the ratio of the powers is drawn from `lowest` to `highest` decibels."""

    modality = "audio"

    def __init__(self, share: Fraction = 0.8, lowest: float = 10.0, highest: float = 40.0):
        self.share, self.lowest, self.highest = share, lowest, highest

    def __call__(self, waves: Tensor, draws: Draws) -> Tensor:
        """Return float32 (B, T) of float32 (B, T); silence stays silence, as it is behind a sound shorter than T."""
        draw = torch.from_numpy(draws("noise", 2))
        rows = generators(draws, "noise itself")
        noise = torch.from_numpy(np.stack([rng.standard_normal(waves.shape[1], dtype=np.float32) for rng in rows]))
        decibels = self.lowest + (self.highest - self.lowest) * draw[:, 1:]
        heard = waves != 0
        power = waves.square().sum(1, keepdim=True) / heard.sum(1, keepdim=True).clamp_min(1)
        noisy = heard & (draw[:, :1] < self.share)
        return waves + torch.where(noisy, power.sqrt() * 10 ** (-decibels / 20) * noise, 0.0)
