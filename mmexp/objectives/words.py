"""Which tokens of a text are words: neither padding nor the tokenizer's marks of begin and end."""

import torch
from torch import Tensor

from mmexp.shapes import Marks
from mmexp.types import Prepared


def real_tokens(text: Prepared) -> Tensor:
    """Return which tokens of a text (B, N) are no padding. Of models that attend to padding `mask` does not tell."""
    return text.get("real", text["mask"])


def word_tokens(text: Prepared, marks: Marks | None = None) -> Tensor:
    """Return which tokens of a text (B, N) are words.

    Args:
        text: `ids (B, N)`, and `real` or `mask (B, N)`.
        marks: the marks of begin and end, which some tokenizers do not set: the first and the last real token are left out where
            they are such. None: they are marks in every text.
    """
    real, ids = real_tokens(text), text["ids"]
    words, rows, last = real.clone(), torch.arange(len(real), device=real.device), (real.sum(1) - 1).clamp_min(0)
    words[:, 0] &= ids[:, 0] != marks.begin if marks else False
    words[rows, last] &= ids[rows, last] != marks.end if marks else False
    return words
