"""Random windows, mirror images and turns of a whole batch, in one resampling."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mmexp.types import Draws, Fraction, NonNegativeFloat


class Geometry:
    """Cut a window that keeps between `crop` and all of each side, mirror a share `flip`, turn by up to `rotation` degrees."""

    modality = "image"

    def __init__(self, crop: Fraction = 1.0, flip: Fraction = 0.0, rotation: NonNegativeFloat = 0.0):
        self.crop, self.flip, self.rotation = crop, flip, rotation

    def __call__(self, pixels: Tensor, draws: Draws) -> Tensor:
        """Return uint8 (B, C, H, W) of uint8 (B, C, H, W); what comes from outside the picture repeats its border."""
        grid = F.affine_grid(self.windows(draws), list(pixels.shape), align_corners=False)
        seen = F.grid_sample(pixels.float(), grid, padding_mode="border", align_corners=False)
        return seen.round_().clamp_(0, 255).to(torch.uint8)

    def windows(self, draws: Draws) -> Tensor:
        """Return (B, 2, 3): from a place in the new picture to that in the old one, both from -1 to 1."""
        draw = torch.from_numpy(draws("geometry", 6))
        side = self.crop + (1 - self.crop) * draw[:, :2]
        centre = (1 - side) * (2 * draw[:, 2:4] - 1)
        mirror = torch.where(draw[:, 4] < self.flip, -1.0, 1.0)
        angle = torch.deg2rad(self.rotation * (2 * draw[:, 5] - 1))
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
        scale = torch.stack([side[:, 0] * mirror, side[:, 1]], 1)
        return torch.cat([turn * scale[:, None], centre[..., None]], 2)
