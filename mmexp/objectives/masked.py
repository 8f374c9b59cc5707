"""Masked modelling: hidden words named again (BERT, arXiv:1810.04805), hidden patches drawn again (SimMIM, arXiv:2111.09886)."""

from typing import Literal

from torch import Tensor, nn

from mmexp.curriculum import Curriculum
from mmexp.objectives.hiding import (
    GREY,
    HideWords,
    MaskPatch,
    draw_cells,
    float_pixels,
    patch_losses,
    patch_size,
    patch_targets,
    word_losses,
)
from mmexp.objectives.presence import count, mean, no_terms
from mmexp.objectives.running_loss import RunningLoss
from mmexp.rows import take
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Fraction, NonNegativeFloat


class Masked(nn.Module):
    """Hide `words` of the text and `patches` of the picture; a ratio of 0 leaves that modality out. Rows that lack
    it do not count.

    A learned patch stands in the place of hidden ones, and a linear head on the encoder's tokens predicts their pixels, by
    the mean absolute error (`patch_loss` l1), as in SimMIM; `l2` with `norm_pix_loss`, which normalizes each patch by its
    mean and variance plus `norm_eps`, is MAE's loss.

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
        patch_loss: Literal["l1", "l2"] = "l1",
        norm_pix_loss: bool = False,
        norm_eps: NonNegativeFloat = 1e-6,
        adaptive: bool = False,
    ):
        super().__init__()
        self.shape, self.patch_masks, self.patch_loss = shape, patch_masks, patch_loss
        self.norm_eps = norm_eps if norm_pix_loss else None
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
            assert shape.image_size
            self.patch_head = nn.Linear(shape.dims["image"], patch_size(shape))
            self.mask_patch = MaskPatch(3, (shape.image_size, shape.image_size), shape.grid)
            self.patch_running = RunningLoss(shape.grid[0] * shape.grid[1]) if adaptive else None

    def forward(self, views: Views) -> Terms:
        """Return a loss for each kind of masking, and the ratios where they follow the losses."""
        terms = Terms({}, {})
        if self.words and "text" in views.batch:
            terms = self._words(views)
        if self.patches and "image" in views.batch:
            losses, metrics, counts = self._patches(views)
            terms = Terms(terms.losses | losses, {**terms.metrics, **metrics}, {**terms.counts, **counts})
        return terms

    def _words(self, views: Views) -> Terms:
        rows = views.having("text")
        if rows is None:
            return _nothing(self, views, "masked_words", self.word_running)
        views = rows
        text, running = views.batch["text"], self.word_running
        ratio = running.ratio(self.words, views) if running else views.current(self.words)
        weight = running.weights(text["ids"]) if running else None
        changed, hidden = self.hide_words(text, ratio, views.row_generator("words"), weight)
        each = word_losses(self.word_head(take(views.encode("text", changed).tokens, hidden)), text["ids"], hidden)
        if running:
            running.learn(text["ids"][hidden], each, views.gather)
        return _terms("masked_words", each, ratio if running else None)

    def _patches(self, views: Views) -> Terms:
        assert self.shape.grid
        rows = views.having("image")
        if rows is None:
            return _nothing(self, views, "masked_patches", self.patch_running)
        views = rows
        pixels, grid, running = float_pixels(views.batch["image"]), self.shape.grid, self.patch_running
        ratio = running.ratio(self.patches, views) if running else views.current(self.patches)
        weight = running.weights() if running else None
        hidden = draw_cells(pixels, grid, ratio, views.row_generator("patches"), self.patch_masks, weight)
        masked = {"pixels": self.mask_patch(pixels, hidden, GREY)}
        drawn = self.patch_head(take(views.encode("image", masked).tokens, hidden))
        each = patch_losses(drawn, patch_targets(pixels, grid, self.norm_eps), hidden, self.patch_loss)
        if running:
            running.learn(hidden.nonzero()[:, 1], each, views.gather)
        return _terms("masked_patches", each, ratio if running else None)


def _terms(name: str, each: Tensor, ratio: float | None) -> Terms:
    """Return the mean of the losses (H,) of what was hidden, and the ratio where it follows the losses."""
    metrics = {} if ratio is None else {f"{name}_ratio": each.new_tensor(ratio)}
    return Terms({name: mean(each)}, metrics, {name: count(each, len(each))})


def _nothing(objective: nn.Module, views: Views, name: str, running: RunningLoss | None) -> Terms:
    """Return the terms of a step in which no row has what `name` hides."""
    if running:
        running.skip(views.gather)
    return no_terms(objective, views, [name], [f"{name}_ratio"] if running else [])
