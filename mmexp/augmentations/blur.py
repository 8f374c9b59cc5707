"""Gaussian blur of a whole batch, each picture by its own width (as in SimCLR, arXiv:2002.05709)."""

from math import ceil

import torch
from torch import Tensor
from torch.nn import functional as F

from mmexp.types import Draws, Fraction, PositiveFloat


class Blur:
    """Blur a `share` of the pictures; the Gaussian's deviation is drawn from `least` to `most` pixels."""

    modality = "image"

    def __init__(self, share: Fraction = 0.5, least: PositiveFloat = 0.1, most: PositiveFloat = 2.0):
        self.share, self.least, self.most = share, least, most

    def __call__(self, pixels: Tensor, draws: Draws) -> Tensor:
        """Return uint8 (B, C, H, W) of uint8 (B, C, H, W); the picture is mirrored at its border."""
        draw = torch.from_numpy(draws("blur", 2))
        chosen = draw[:, 0] < self.share
        if not chosen.any():
            return pixels
        blurred = pixels.clone()
        deviation = self.least + (self.most - self.least) * draw[chosen, 1]
        # Beyond three deviations a Gaussian weighs nothing; a mirror is no larger than the picture.
        reach = min(ceil(3 * self.most), min(pixels.shape[-2:]) - 1)
        blurred[chosen] = _blurred(pixels[chosen], deviation, reach)
        return blurred


def _blurred(pixels: Tensor, deviation: Tensor, reach: int) -> Tensor:
    """Return (B, C, H, W) blurred by `deviation (B,)`, as two passes of one grouped convolution each."""
    groups = pixels.shape[0] * pixels.shape[1]
    place = torch.arange(-reach, reach + 1) / deviation[:, None]
    kernel = torch.softmax(-(place**2) / 2, 1).repeat_interleave(pixels.shape[1], 0)[:, None]
    planes = F.pad(pixels.float(), [reach] * 4, mode="reflect").flatten(0, 1)[None]
    planes = F.conv2d(planes, kernel[:, :, None], groups=groups)
    planes = F.conv2d(planes, kernel[..., None], groups=groups)
    return planes.round_().clamp_(0, 255).to(torch.uint8).view_as(pixels)
