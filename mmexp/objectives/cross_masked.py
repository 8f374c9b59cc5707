"""Cross-modal masking: words and patches are hidden together, and each is predicted with the other's help.

FLAVA (arXiv:2112.04482) hides both by fixed ratios, MaskVLM (arXiv:2208.02131) one while the other is seen whole. Between them
lies MultiMAE's way (arXiv:2204.01678, section 3.2): what is hidden in all stays the same, and how much of it falls to which
modality is drawn for each row from a symmetric Dirichlet distribution.
"""

from typing import Literal

import torch
from scipy.special import betaincinv
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
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Fraction, NonNegativeFloat, PositiveFloat


def shared_ratios(hidden: float, chance: Tensor, concentration: float) -> Tensor:
    """Return the ratios (2, B) of words and patches, whose mean is `hidden` in every row.

    The split follows Beta(`concentration`, `concentration`), the symmetric Dirichlet distribution of two (MultiMAE,
    arXiv:2204.01678, section 3.2): uniform at 1, equal halves when it is large, one modality nearly all hidden and the
    other nearly all visible when it is small. With `hidden` 0.5 the two are r and 1 - r.

    Args:
        hidden: The mean of the two ratios, from 0 to 1.
        chance: A uniform random number of each row `(B,)`, the quantile of its split.
        concentration: The parameter of the distribution.
    """
    least, most = max(0.0, 2 * hidden - 1), min(1.0, 2 * hidden)
    quantile = torch.from_numpy(betaincinv(concentration, concentration, chance.double().numpy()))
    return (least + (most - least) * torch.stack([quantile, 1 - quantile])).float()


class CrossMasked(nn.Module):
    """Hide words and patches, `hidden` of the two on average; each is predicted from the fused token in its place.

    A learned patch stands in the place of hidden ones. The squared error is that of patches normalized by their own mean and
    variance, to which `norm_eps` is added (MultiMAE, section 3.4), or with `norm_pix_loss` false of plain pixels.
    """

    needs = ("fused", "fused_tokens", "image", "text", "inputs", "every_patch")

    def __init__(
        self,
        shape: ModelShape,
        *,
        hidden: Curriculum[Fraction] = 0.5,
        concentration: PositiveFloat = 1.0,
        word_masks: Literal["random", "whole_words", "spans"] = "random",
        patch_masks: Literal["random", "blocks"] = "random",
        norm_pix_loss: bool = True,
        norm_eps: NonNegativeFloat = 1e-6,
    ):
        super().__init__()
        assert shape.fused_dim
        assert shape.grid
        self.hidden, self.concentration, self.patch_masks, self.grid = hidden, concentration, patch_masks, shape.grid
        self.hide_words = HideWords(shape, word_masks)
        self.word_head = nn.Linear(shape.fused_dim, shape.vocab_size or 0)
        assert shape.image_size
        self.norm_eps = norm_eps if norm_pix_loss else None
        self.patch_head = nn.Linear(shape.fused_dim, patch_size(shape))
        self.mask_patch = MaskPatch(3, (shape.image_size, shape.image_size), shape.grid)

    def forward(self, views: Views) -> Terms:
        """Return the loss on hidden words and that on hidden patches, of the rows that have both modalities."""
        rows = views.having("image", "text")
        if rows is None:
            return no_terms(self, views, ["cross_masked_words", "cross_masked_patches"])
        views = rows
        text, pixels, generator = (
            views.batch["text"],
            float_pixels(views.batch["image"]),
            views.row_generator("cross_masked"),
        )
        ratios = shared_ratios(views.current(self.hidden), generator.rand(len(pixels)), self.concentration)
        of_words, of_patches = ratios.to(pixels.device)
        changed, words = self.hide_words(text, of_words, generator)
        patches = draw_cells(pixels, self.grid, of_patches, generator, self.patch_masks)
        seen = {"image": views.encode("image", {"pixels": self.mask_patch(pixels, patches, GREY)})}
        fused = views.fuse(seen | {"text": views.encode("text", changed)})
        named, drawn = fused.tokens_of("text")[words], fused.tokens_of("image")[patches]
        targets = patch_targets(pixels, self.grid, self.norm_eps)
        each = {
            "cross_masked_words": word_losses(self.word_head(named), text["ids"], words),
            "cross_masked_patches": patch_losses(self.patch_head(drawn), targets, patches),
        }
        losses = {name: mean(found) for name, found in each.items()}
        return Terms(losses, counts={name: count(found, len(found)) for name, found in each.items()})
