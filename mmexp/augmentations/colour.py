"""Random brightness, contrast and saturation of a whole batch (colour jitter, arXiv:2002.05709), in one product."""

import torch
from torch import Tensor

from mmexp.types import Draws, Fraction

# How bright the eye sees red, green and blue (ITU-R BT.601), as torchvision's.
_LUMA = torch.tensor([0.299, 0.587, 0.114])


class Colour:
    """Each factor is drawn from 1 - x to 1 + x; a share `grey` of the pictures loses its colours."""

    modality = "image"

    def __init__(
        self, brightness: Fraction = 0.0, contrast: Fraction = 0.0, saturation: Fraction = 0.0, grey: Fraction = 0.0
    ):
        self.brightness, self.contrast, self.saturation, self.grey = brightness, contrast, saturation, grey

    def __call__(self, pixels: Tensor, draws: Draws) -> Tensor:
        """Return uint8 (B, 3, H, W) of uint8 (B, 3, H, W)."""
        draw = torch.from_numpy(draws("colour", 4))
        spread = torch.tensor([self.brightness, self.contrast, self.saturation])
        bright, contrast, colour = (1 + spread * (2 * draw[:, :3] - 1))[..., None, None].unbind(1)
        colour = torch.where(draw[:, 3, None, None] < self.grey, 0.0, colour)
        flat = pixels.flatten(2).float()
        mix = colour * torch.eye(3) + (1 - colour) * _LUMA
        mean = (flat.mean(2) @ _LUMA)[:, None, None]
        jittered = torch.baddbmm((1 - contrast) * bright * mean, contrast * bright * mix, flat)
        return jittered.round_().clamp_(0, 255).to(torch.uint8).view_as(pixels)
