"""Sounds that begin a little earlier or later."""

import torch
from torch import Tensor

from mmexp.types import Draws, Fraction


class Shift:
    """Shift each sound in time by up to `most` of its length, either way; silence fills the gap."""

    modality = "audio"

    def __init__(self, most: Fraction = 0.1):
        self.most = most

    def __call__(self, waves: Tensor, draws: Draws) -> Tensor:
        """Return float32 (B, T) of float32 (B, T)."""
        length = waves.shape[1]
        steps = (self.most * length * (2 * torch.from_numpy(draws("shift", 1)) - 1)).round().long()
        place = torch.arange(length) - steps
        return waves.gather(1, place.clamp(0, length - 1)).masked_fill((place < 0) | (place >= length), 0.0)
