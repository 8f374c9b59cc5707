"""Masked modelling: hidden words named again (BERT, arXiv:1810.04805), hidden patches drawn again (SimMIM, arXiv:2111.09886)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.curriculum import Curriculum
from mmexp.types import Fraction, ModelShape, Prepared, Terms, Views


def hide_words(
    text: Prepared, ratio: float, mask_id: int, vocab_size: int, generator: torch.Generator
) -> tuple[Prepared, Tensor]:
    """Return `text` with words hidden and the places (B, N) where; of them 80 % become the mask word, 10 % a random one.

    The first and the last real token stay: they are the tokenizer's own marks.
    """
    ids, mask = text["ids"], text["mask"]
    inner = mask.clone()
    inner[:, 0] = False
    inner[torch.arange(len(mask)), mask.sum(1) - 1] = False
    draw = torch.rand(2, *ids.shape, generator=generator).to(ids.device)
    hidden = inner & (draw[0] < ratio)
    random = torch.randint(vocab_size, ids.shape, generator=generator).to(ids.device)
    changed = torch.where(hidden & (draw[1] < 0.8), mask_id, ids)
    changed = torch.where(hidden & (draw[1] >= 0.9), random, changed)
    return {**text, "ids": changed}, hidden


def to_patches(pixels: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cut (B, C, H, W) into the cells of `grid` (rows, columns): (B, rows * columns, C * h * w)."""
    rows, columns = grid
    batch, channels, height, width = pixels.shape
    cells = pixels.reshape(batch, channels, rows, height // rows, columns, width // columns)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, -1)


def hide_patches(
    pixels: Tensor, grid: tuple[int, int], ratio: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return pixels (B, C, H, W) with a share of the grid's cells painted in the batch's mean colour, and which (B, cells)."""
    rows, columns = grid
    cells = rows * columns
    order = torch.rand(len(pixels), cells, generator=generator).to(pixels.device).argsort(1)
    hidden = order < round(ratio * cells)
    area = hidden.view(-1, 1, rows, columns).float()
    area = F.interpolate(area, size=pixels.shape[-2:], mode="nearest")
    return torch.where(area > 0.5, pixels.mean((0, 2, 3), keepdim=True), pixels), hidden


class Masked(nn.Module):
    """Hide `words` of the text and `patches` of the picture; a ratio of 0 leaves that modality out."""

    needs = ("tokens",)

    def __init__(self, shape: ModelShape, *, words: Curriculum[Fraction] = 0.3, patches: Curriculum[Fraction] = 0.5):
        super().__init__()
        self.shape = shape
        self.words = words if "text" in shape.dims else 0.0
        self.patches = patches if "image" in shape.dims else 0.0
        if self.words:
            self.word_head = nn.Linear(shape.dims["text"], shape.vocab_size or 0)
        if self.patches:
            assert shape.image_size
            assert shape.grid
            self.patch_head = nn.Linear(shape.dims["image"], 3 * shape.image_size**2 // (shape.grid[0] * shape.grid[1]))

    def forward(self, views: Views) -> Terms:
        """Return a loss for each kind of masking."""
        losses = {}
        if self.words and "text" in views.batch:
            losses["masked_words"] = self._words(views)
        if self.patches and "image" in views.batch:
            losses["masked_patches"] = self._patches(views)
        return Terms(losses)

    def _words(self, views: Views) -> Tensor:
        text, generator = views.batch["text"], views.generator("words")
        changed, hidden = hide_words(
            text, views.current(self.words), self.shape.mask_token_id or 0, self.shape.vocab_size or 0, generator
        )
        logits = self.word_head(views.encode("text", changed).tokens[hidden]).float()
        return F.cross_entropy(logits, text["ids"][hidden], reduction="sum") / hidden.sum().clamp_min(1)

    def _patches(self, views: Views) -> Tensor:
        assert self.shape.grid
        pixels = views.batch["image"]["pixels"]
        pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        changed, hidden = hide_patches(pixels, self.shape.grid, views.current(self.patches), views.generator("patches"))
        drawn = self.patch_head(views.encode("image", {"pixels": changed}).tokens[hidden]).float()
        target = to_patches(pixels, self.shape.grid)
        # Each patch by its own mean and deviation (MAE, arXiv:2111.06377, section 4); flat patches need the floor.
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-2).sqrt()
        target = target[hidden]
        # Summed and divided here: a curriculum may begin with no patch hidden, and the mean of nothing would be NaN.
        return F.mse_loss(drawn, target, reduction="sum") / max(1, target.numel())
