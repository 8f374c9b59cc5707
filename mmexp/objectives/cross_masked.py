"""Cross-modal masking: words and patches are hidden together, and each is predicted with the other's help.

FLAVA (arXiv:2112.04482) hides both by fixed ratios, MaskVLM (arXiv:2208.02131) one while the other is seen whole. Between them
lies MultiMAE's way (arXiv:2204.01678, section 3.2): what is hidden in all stays the same, and how much of it falls to which
modality is drawn for each row from a symmetric Dirichlet distribution.
"""

from typing import Literal

import torch
from torch import Tensor, nn

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
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Fraction, PositiveFloat


def shared_ratios(hidden: float, rows: int, concentration: float, generator: torch.Generator) -> Tensor:
    """Return the ratios (2, rows) of words and patches, whose mean is `hidden` in every row.

    The split is drawn from Beta(`concentration`, `concentration`): uniform at 1, equal halves when it is large, one modality
    nearly all hidden and the other nearly all seen when it is small. With `hidden` 0.5 the two are r and 1 - r.
    """
    least, most = max(0.0, 2 * hidden - 1), min(1.0, 2 * hidden)
    alpha = torch.full((rows, 2), concentration, dtype=torch.double)
    split = torch._sample_dirichlet(alpha, generator=generator).T
    return (least + (most - least) * split).float()


class CrossMasked(nn.Module):
    """Hide words and patches, `hidden` of the two on average; each is predicted from the fused token in its place."""

    needs = ("fused", "fused_tokens", "image", "text", "inputs", "every_patch")

    def __init__(
        self,
        shape: ModelShape,
        *,
        hidden: Curriculum[Fraction] = 0.5,
        concentration: PositiveFloat = 1.0,
        word_masks: Literal["random", "whole_words", "spans"] = "random",
        patch_masks: Literal["random", "blocks"] = "random",
    ):
        super().__init__()
        assert shape.fused_dim
        assert shape.grid
        self.hidden, self.concentration, self.patch_masks, self.grid = hidden, concentration, patch_masks, shape.grid
        self.hide_words = HideWords(shape, word_masks)
        self.word_head = nn.Linear(shape.fused_dim, shape.vocab_size or 0)
        self.patch_head = nn.Linear(shape.fused_dim, patch_size(shape))

    def forward(self, views: Views) -> Terms:
        """Return the loss on hidden words and that on hidden patches, of the rows that have both modalities."""
        rows = views.having("image", "text")
        if rows is None:
            return no_terms(self, views, ["cross_masked_words", "cross_masked_patches"])
        views = rows
        text, pixels, generator = (
            views.batch["text"],
            float_pixels(views.batch["image"]),
            views.generator("cross_masked"),
        )
        ratios = shared_ratios(views.current(self.hidden), len(pixels), self.concentration, generator)
        of_words, of_patches = ratios.to(pixels.device)
        changed, words = self.hide_words(text, of_words, generator)
        patches = draw_cells(pixels, self.grid, of_patches, generator, self.patch_masks)
        seen = {"image": views.encode("image", {"pixels": paint(pixels, patches, self.grid)})}
        fused = views.fuse(seen | {"text": views.encode("text", changed)})
        named, drawn = fused.tokens_of("text")[words], fused.tokens_of("image")[patches]
        losses = {
            "cross_masked_words": mean(word_losses(self.word_head(named), text["ids"], words)),
            "cross_masked_patches": mean(patch_losses(self.patch_head(drawn), pixels, patches, self.grid)),
        }
        return Terms(losses)
