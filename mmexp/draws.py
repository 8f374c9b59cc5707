"""Random numbers as a function: of the seed, the epoch, the row and what they are for, never of what was drawn before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

_ODD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F)


@dataclass(frozen=True)
class RowDraws:
    """Numbers for the rows of one batch: `rows (B,)` as they are read in `epoch`, others for each `view` of them."""

    seed: int
    epoch: int
    rows: Sequence[int]
    view: str = ""

    def __call__(self, name: str, columns: int) -> np.ndarray:
        """Return numbers (B, columns) from 0 to below 1, float32, the same whenever the same is asked for."""
        purpose = crc32(f"{self.view}{name}".encode())
        parts = (np.asarray(self.rows)[:, None], np.arange(columns)[None], self.epoch, self.seed, purpose)
        state = np.zeros((len(self.rows), columns), dtype=np.uint64)
        for part, odd in zip(parts, _ODD, strict=True):
            state = _mixed(state + np.asarray(part, dtype=np.uint64) * np.uint64(odd))
        return (state >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


class RowGenerator:
    """Random numbers for the rows of a training step, a function of (seed, step, row, name) and of how often it was called.

    Which other rows are in the batch, how many processes share it and how far texts are padded changes nothing.

    Args:
        seed: The run's seed.
        step: The step of the run; 0 in evaluations, so that the same row gets the same numbers in each of them.
        rows: The row numbers `(B,)` in the data set.
        name: What the numbers are for.
    """

    def __init__(self, seed: int, step: int, rows: Tensor, name: str):
        self.draws = RowDraws(seed, step, rows.tolist(), name)
        self.calls = 0

    def rand(self, *shape: int) -> Tensor:
        """Return numbers from [0, 1), float32 on the CPU, as `torch.rand` does; the first of `shape` is the number of rows."""
        self.calls += 1
        flat = self.draws(f" {self.calls}", prod(shape[1:]))
        return torch.from_numpy(flat).view(shape)


def generators(draws: Callable[[str, int], np.ndarray], name: str) -> list[np.random.Generator]:
    """Return a generator for each row, where how many numbers it needs is not known beforehand."""
    high, low = (draws(name, 2) * 2**24).astype(np.int64).T
    return [np.random.default_rng(int(seed)) for seed in high << 24 | low]


def _mixed(state: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele et al. 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
