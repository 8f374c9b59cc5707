"""Rows of token ids as a batch."""

from collections.abc import Sequence

import torch

from mmexp.types import Prepared


def pad(rows: Sequence[Sequence[int]], pad_id: int) -> Prepared:
    """Return `ids (B, N)` long and `mask (B, N)` of rows of ids, N the longest of them."""
    ids = torch.full((len(rows), max(map(len, rows))), pad_id)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = True
    return {"ids": ids, "mask": mask}
