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
        places = _places(self.windows(draws), *pixels.shape[-2:])
        seen = F.grid_sample(pixels.float(), places, padding_mode="border", align_corners=False)
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


def _places(windows: Tensor, height: int, width: int) -> Tensor:
    """Return where each new pixel comes from (B, H, W, 2): `F.affine_grid`, whose narrow product takes 20 times as long."""
    down, right = ((2 * torch.arange(side) + 1) / side - 1 for side in (height, width))
    across, along, centre = windows.unsqueeze(-1).unbind(2)
    return ((along * down + centre)[..., None] + (across * right)[:, :, None]).permute(0, 2, 3, 1)
