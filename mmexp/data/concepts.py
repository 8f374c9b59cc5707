"""Which rows show the same thing, and which of these are held out for validation."""

from collections.abc import Sequence

import numpy as np


def concepts_of(keys: Sequence[Sequence[str | None]]) -> np.ndarray:
    """Return for each row the number of its concept (N,): rows that share any key, directly or through others, are one.

    A row's keys are of different kinds (picture, caption); None is shared with no one.
    """
    parent = list(range(len(keys)))
    first: dict[tuple[int, str], int] = {}
    for row, own in enumerate(keys):
        for kind, key in enumerate(own):
            if key is not None:
                a, b = _root(parent, first.setdefault((kind, key), row)), _root(parent, row)
                parent[max(a, b)] = min(a, b)
    roots = [_root(parent, row) for row in range(len(keys))]
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)


def _root(parent: list[int], row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


def hold_out(concepts: np.ndarray, fraction: float) -> np.ndarray:
    """Return (N,) true for rows of a `fraction` of the concepts, at least one and not all where there are two or more.

    Which ones is the same in every run: it does not depend on the seed.
    """
    every = np.unique(concepts)
    count = min(max(1, round(fraction * len(every))), len(every) - 1)
    held = np.random.default_rng(0).permutation(every)[:count]
    return np.isin(concepts, held)
