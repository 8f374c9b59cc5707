"""From PIL pictures to a batch of pixels."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def fit(picture: Image.Image, size: int, shorter: int, squash: bool = False) -> Image.Image:
    """Return the picture as size x size pixels: bicubic to `shorter` pixels on its shorter side, then its centre.

    The sizes round as torchvision's Resize and CenterCrop do. `squash` ignores the proportions and cuts nothing.
    """
    picture = picture if picture.mode == "RGB" else picture.convert("RGB")
    if picture.size == (size, size):
        return picture
    if squash:
        return picture.resize((size, size), Image.Resampling.BICUBIC)
    least = min(picture.size)
    width, height = (shorter if side == least else int(shorter * side / least) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return picture.crop((left, top, left + size, top + size))


def stack(pictures: Sequence[Image.Image]) -> Tensor:
    """Return pictures of equal size as uint8 (B, 3, H, W)."""
    return torch.from_numpy(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2).contiguous()
