"""Rows of token ids as a batch, and what the pieces of a vocabulary say of words."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmexp.shapes import Marks
from mmexp.types import Prepared


def pad(rows: Sequence[Sequence[int]], pad_id: int) -> Prepared:
    """Return `ids (B, N)` long and `mask (B, N)` of rows of ids, N the longest of them."""
    ids = torch.full((len(rows), max(map(len, rows))), pad_id)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = True
    return {"ids": ids, "mask": mask}


# What marks words in the vocabularies of WordPiece, byte-level BPE, SentencePiece and CLIP's BPE.
_MARKS = ("##", "Ġ", "▁", "</w>")
_FEWEST = 0.05  # of all pieces; byte-level vocabularies hold a few `##` too, as text


def word_edges(pieces: Sequence[str], size: int) -> Tensor | None:
    """Return (2, size): whether each id begins a word, and whether it ends one; None where no mark tells.

    `pieces` are the vocabulary's, in the order of their ids; ids beyond them are words of their own.
    """
    bears = {"</w>": str.endswith}
    bearing = {mark: [bears.get(mark, str.startswith)(piece, mark) for piece in pieces] for mark in _MARKS}
    mark, bearers = max(bearing.items(), key=lambda item: sum(item[1]))
    if sum(bearers) < _FEWEST * len(pieces):
        return None
    marked = torch.tensor(bearers)
    nowhere = torch.zeros_like(marked)
    begins, ends = {"##": (~marked, nowhere), "</w>": (nowhere, marked)}.get(mark, (marked, nowhere))
    edges = torch.ones(2, size, dtype=torch.bool)
    edges[:, : len(pieces)] = torch.stack([begins, ends])[:, :size]
    return edges


def words_of(ids: Sequence[int], marks: Marks) -> list[int]:
    """Return the tokens between the marks of begin and end, where there are such."""
    words = list(ids[1:] if ids[0] == marks.begin else ids)
    return words[: words.index(marks.end)] if marks.end in words else words
