"""Masked modelling: hidden words named again (BERT, arXiv:1810.04805), hidden patches drawn again (SimMIM, arXiv:2111.09886)."""

from typing import Literal

from torch import nn

from mmexp.curriculum import Curriculum
from mmexp.objectives.hiding import (
    HideWords,
    draw_cells,
    float_pixels,
    mean,
    paint,
    patch_losses,
    patch_size,
    word_losses,
)
from mmexp.objectives.presence import no_terms
from mmexp.objectives.running_loss import RunningLoss
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Fraction


class Masked(nn.Module):
    """Hide `words` of the text and `patches` of the picture; a ratio of 0 leaves that modality out. Rows that lack
    it do not count.

    `adaptive` hides in proportion to the running loss of each word of the vocabulary and each place of the picture, and
    lets the fall of the loss lead a ratio that is a curriculum, instead of the run's progress.
    """

    needs = ("tokens", "inputs", "every_patch")

    def __init__(
        self,
        shape: ModelShape,
        *,
        words: Curriculum[Fraction] = 0.3,
        patches: Curriculum[Fraction] = 0.5,
        word_masks: Literal["random", "whole_words", "spans"] = "random",
        patch_masks: Literal["random", "blocks"] = "random",
        adaptive: bool = False,
    ):
        super().__init__()
        self.shape, self.patch_masks = shape, patch_masks
        self.words = words if "text" in shape.dims else 0.0
        self.patches = patches if "image" in shape.dims else 0.0
        self.word_running: RunningLoss | None = None
        self.patch_running: RunningLoss | None = None
        if self.words:
            self.word_head = nn.Linear(shape.dims["text"], shape.vocab_size or 0)
            self.hide_words = HideWords(shape, word_masks)
            self.word_running = RunningLoss(shape.vocab_size or 0) if adaptive else None
        if self.patches:
            assert shape.grid
            self.patch_head = nn.Linear(shape.dims["image"], patch_size(shape))
            self.patch_running = RunningLoss(shape.grid[0] * shape.grid[1]) if adaptive else None

    def forward(self, views: Views) -> Terms:
        """Return a loss for each kind of masking, and the ratios where they follow the losses."""
        terms = Terms({}, {})
        if self.words and "text" in views.batch:
            terms = self._words(views)
        if self.patches and "image" in views.batch:
            losses, metrics = self._patches(views)
            terms = Terms(terms.losses | losses, {**terms.metrics, **metrics})
        return terms

    def _words(self, views: Views) -> Terms:
        rows = views.having("text")
        if rows is None:
            return _nothing(self, views, "masked_words", self.word_running)
        views = rows
        text, running = views.batch["text"], self.word_running
        ratio = running.ratio(self.words, views) if running else views.current(self.words)
        weight = running.weights(text["ids"]) if running else None
        changed, hidden = self.hide_words(text, ratio, views.generator("words"), weight)
        each = word_losses(self.word_head(views.encode("text", changed).tokens[hidden]), text["ids"], hidden)
        if running:
            running.learn(text["ids"][hidden], each, views.gather)
        return Terms({"masked_words": mean(each)}, {"masked_words_ratio": each.new_tensor(ratio)} if running else {})

    def _patches(self, views: Views) -> Terms:
        assert self.shape.grid
        rows = views.having("image")
        if rows is None:
            return _nothing(self, views, "masked_patches", self.patch_running)
        views = rows
        pixels, grid, running = float_pixels(views.batch["image"]), self.shape.grid, self.patch_running
        ratio = running.ratio(self.patches, views) if running else views.current(self.patches)
        weight = running.weights() if running else None
        hidden = draw_cells(pixels, grid, ratio, views.generator("patches"), self.patch_masks, weight)
        drawn = self.patch_head(views.encode("image", {"pixels": paint(pixels, hidden, grid)}).tokens[hidden])
        each = patch_losses(drawn, pixels, hidden, grid)
        if running:
            running.learn(hidden.nonzero()[:, 1], each, views.gather)
        return Terms(
            {"masked_patches": mean(each)}, {"masked_patches_ratio": each.new_tensor(ratio)} if running else {}
        )


def _nothing(objective: nn.Module, views: Views, name: str, running: RunningLoss | None) -> Terms:
    """Return the terms of a step in which no row has what `name` hides."""
    if running:
        running.skip(views.gather)
    return no_terms(objective, views, [name], [f"{name}_ratio"] if running else [])
