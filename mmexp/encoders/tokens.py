"""Rows of token ids as a batch."""

from collections.abc import Sequence

import torch

from mmexp.types import Marks, Prepared


def pad(rows: Sequence[Sequence[int]], pad_id: int) -> Prepared:
    """Return `ids (B, N)` long and `mask (B, N)` of rows of ids, N the longest of them."""
    ids = torch.full((len(rows), max(map(len, rows))), pad_id)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = True
    return {"ids": ids, "mask": mask}


def words_of(ids: Sequence[int], marks: Marks) -> list[int]:
    """Return the tokens between the marks of begin and end, where there are such."""
    words = list(ids[1:] if ids[0] == marks.begin else ids)
    return words[: words.index(marks.end)] if marks.end in words else words
