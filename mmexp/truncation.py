"""Captions that are longer than a text encoder's context, counted before a run begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Rows, evenly spread, that are looked at: a second at most.
ROWS = 2000


@dataclass(frozen=True)
class Truncated:
    """How many of so many captions are cut at `length` tokens, and how many differ from another one only behind the cut."""

    cut: int
    captions: int
    alike: int
    length: int


def truncated(encoder: Any, captions: Sequence[str]) -> Truncated:
    """Count captions that are cut. The encoder's own count of these stays as it was.

    Args:
        encoder: one of texts, with its `context` in tokens, and `cut`, which counts what `prepare` cuts.
        captions: as they are read.
    """
    before, seen = encoder.cut, dict[tuple[int, ...], set[str]]()
    cut = 0
    for caption in captions:
        counted = encoder.cut
        ids = encoder.prepare([caption])["ids"][0]
        if encoder.cut > counted:
            cut += 1
            seen.setdefault(tuple(ids.tolist()), set()).add(caption)
    encoder.cut = before
    alike = sum(len(texts) for texts in seen.values() if len(texts) > 1)
    return Truncated(cut, len(captions), alike, encoder.context)


def spread(rows: int) -> list[int]:
    """Return the rows that are looked at of so many."""
    return np.linspace(0, rows - 1, min(rows, ROWS)).round().astype(int).tolist()
