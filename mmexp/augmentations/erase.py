"""Random erasing: a rectangle of a picture is lost (arXiv:1708.04896)."""

import numpy as np
import torch
from torch import Tensor

from mmexp.draws import generators
from mmexp.types import Draws, Fraction, PositiveFloat


class Erase:
    """Paint a rectangle of noise into a `share` of the pictures, a part `smallest` to `largest` of the picture's area.

    Its height over its width is drawn, on a logarithmic scale, from 1 / `stretch` to `stretch`; a side longer than the picture
    is cut to the picture's.
    """

    modality = "image"

    def __init__(
        self, share: Fraction = 0.5, smallest: Fraction = 0.02, largest: Fraction = 0.4, stretch: PositiveFloat = 3.3
    ):
        self.share, self.smallest, self.largest, self.stretch = share, smallest, largest, stretch

    def __call__(self, pixels: Tensor, draws: Draws) -> Tensor:
        """Return uint8 (B, C, H, W) of uint8 (B, C, H, W)."""
        erased, noises = pixels.clone(), generators(draws, "erase noise")
        for row, (top, left, height, width) in self.rectangles(draws, *pixels.shape[-2:]).items():
            noise = noises[row].integers(256, size=(pixels.shape[1], height, width), dtype=np.uint8)
            erased[row, :, top : top + height, left : left + width] = torch.from_numpy(noise)
        return erased

    def rectangles(self, draws: Draws, height: int, width: int) -> dict[int, list[int]]:
        """Return for each row that loses something the top, left, height and width of it, in pixels."""
        draw = draws("erase", 5)
        area = self.smallest + (self.largest - self.smallest) * draw[:, 1]
        tall = self.stretch ** (2 * draw[:, 2] - 1)
        whole = np.array([height, width])
        sides = np.sqrt(area * height * width)[:, None] * np.stack([tall**0.5, tall**-0.5], 1)
        sides = np.clip(np.rint(sides), 1, whole).astype(int)
        corner = np.floor(draw[:, 3:5] * (whole - sides + 1)).astype(int)
        chosen = np.flatnonzero(draw[:, 0] < self.share)
        return {int(row): [*corner[row].tolist(), *sides[row].tolist()] for row in chosen}
