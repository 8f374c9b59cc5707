"""Masked autoencoder (MAE, arXiv:2111.06377): the encoder reads the visible patches alone, a small decoder draws the others."""

from typing import Literal

from torch import nn

from mmexp.curriculum import Curriculum
from mmexp.objectives.hiding import draw_cells, float_pixels, patch_losses, patch_size, patch_targets
from mmexp.objectives.patch_decoder import PatchDecoder
from mmexp.objectives.presence import count, mean, no_terms
from mmexp.objectives.running_loss import RunningLoss
from mmexp.rows import take
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Fraction, NonNegativeFloat, PositiveInt


class Mae(nn.Module):
    """Hide a `ratio` of the patches, leaving one at least; the decoder has `depth` blocks of `dim` and `heads`.

    Targets are patches normalized by their own mean and variance, to which `norm_eps` is added, or with `norm_pix_loss`
    false plain pixels, in ImageNet's standard deviations. `adaptive` hides places in proportion to their running loss, and
    lets its fall lead a ratio that is a curriculum.
    """

    needs = ("tokens", "image", "visible", "inputs")

    def __init__(
        self,
        shape: ModelShape,
        *,
        ratio: Curriculum[Fraction] = 0.75,
        patch_masks: Literal["random", "blocks"] = "random",
        dim: PositiveInt = 96,
        depth: PositiveInt = 2,
        heads: PositiveInt = 3,
        norm_pix_loss: bool = True,
        norm_eps: NonNegativeFloat = 1e-6,
        adaptive: bool = False,
    ):
        super().__init__()
        assert shape.grid
        self.grid, self.cells = shape.grid, shape.grid[0] * shape.grid[1]
        self.ratio, self.patch_masks = ratio, patch_masks
        self.norm_eps = norm_eps if norm_pix_loss else None
        self.decoder = PatchDecoder(shape.dims["image"], shape.grid, patch_size(shape), dim, depth, heads)
        self.running = RunningLoss(self.cells) if adaptive else None

    def forward(self, views: Views) -> Terms:
        """Return the loss on the hidden patches, and the ratio where it follows the losses."""
        running, rows = self.running, views.having("image")
        if rows is None:
            if running:
                running.skip(views.gather)
            return no_terms(self, views, ["mae"], ["mae_ratio"] if running else [])
        views, image = rows, rows.batch["image"]
        ratio = running.ratio(self.ratio, views) if running else views.current(self.ratio)
        weight = running.weights() if running else None
        pixels, most = float_pixels(image), 1 - 1 / self.cells
        hidden = draw_cells(pixels, self.grid, min(ratio, most), views.row_generator("mae"), self.patch_masks, weight)
        keep = (~hidden).nonzero()[:, 1].view(len(hidden), -1)
        drawn = self.decoder(views.encode("image", image, keep).tokens, keep)
        each = patch_losses(take(drawn, hidden), patch_targets(pixels, self.grid, self.norm_eps), hidden)
        if running:
            running.learn(hidden.nonzero()[:, 1], each, views.gather)
        metrics = {"mae_ratio": each.new_tensor(ratio)} if running else {}
        return Terms({"mae": mean(each)}, metrics, {"mae": count(each, len(each))})
