"""Random crops of a whole batch at once."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def random_crops(pixels: Tensor, least: float, draws: np.ndarray) -> Tensor:
    """Cut a window out of every picture of `pixels (B, C, H, W)` uint8 and scale it back to (H, W).

    A window keeps between `least` and all of each side; `draws (B, 4)` in [0, 1) decide its height, width, top and left.
    """
    draw = torch.from_numpy(draws).float()
    side = least + (1 - least) * draw[:, :2]
    centre = (1 - side) * (2 * draw[:, 2:] - 1)
    theta = torch.zeros(len(pixels), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = side[:, 1], side[:, 0]
    theta[:, 0, 2], theta[:, 1, 2] = centre[:, 1], centre[:, 0]
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    cut = F.grid_sample(pixels.float(), grid, padding_mode="border", align_corners=False)
    return cut.round().clamp(0, 255).to(torch.uint8)
