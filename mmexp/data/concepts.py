"""Which concepts of bundled data are held out for validation."""

import numpy as np


def hold_out(concepts: np.ndarray, fraction: float) -> np.ndarray:
    """Return (N,) true for rows of a `fraction` of the concepts, at least one and not all where there are two or more.

    Which ones is the same in every run: it does not depend on the seed.
    """
    every = np.unique(concepts)
    count = min(max(1, round(fraction * len(every))), len(every) - 1)
    held = np.random.default_rng(0).permutation(every)[:count]
    return np.isin(concepts, held)
