"""Ranks of the relevant candidates of retrieval queries, and the metrics that follow from them.

Candidates of equal score have no order of their own. Every value here is the expectation over all orders of equal scores
(McSherry and Najork, ECIR 2008), so that a model which gives all candidates one score is measured at chance.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

QUERIES_AT_ONCE = 1024

Relevant = Callable[[slice], Tensor]
"""From a slice of R queries to (R, K) bool: which of the K candidates are relevant to each."""


@dataclass(frozen=True)
class Ranks:
    """Where the first relevant candidate of each of Q queries stands, each field (Q,) int64.

    Args:
        above: how many irrelevant candidates score higher than the best relevant one.
        tied: how many irrelevant candidates score the same as it.
        relevant: how many relevant candidates, itself included, have that score.
    """

    above: Tensor
    tied: Tensor
    relevant: Tensor

    def expected(self) -> Tensor:
        """Return the expected rank (Q,), counted from 1, float64.

        A tied irrelevant candidate stands before all of the relevant ones with probability 1 / (relevant + 1).
        """
        return 1 + self.above + self.tied / (self.relevant + 1).double()

    def recall(self, k: int) -> Tensor:
        """Return the probability (Q,), float64, that a relevant candidate is among the first `k`."""
        places, missed = k - self.above, torch.ones(len(self.above), dtype=torch.float64)
        for drawn in range(k):
            irrelevant = (self.tied - drawn).clamp_min(0) / (self.tied + self.relevant - drawn).clamp_min(1).double()
            missed *= torch.where(places > drawn, irrelevant, 1.0)
        return 1 - missed

    def reciprocal(self) -> Tensor:
        """Return the expected reciprocal rank (Q,), float64."""
        found = 1 / (1 + self.above).double()
        for case in torch.stack([self.above, self.tied, self.relevant], 1)[self.tied > 0].unique(dim=0):
            above, tied, relevant = case.tolist()
            drawn = np.arange(tied + 1)
            # Of the tied group the first relevant one comes after `drawn` irrelevant ones.
            passed = np.cumprod(np.append(1.0, (tied - drawn[:-1]) / (tied + relevant - drawn[:-1])))
            first = passed * relevant / (tied + relevant - drawn)
            same = (self.above == above) & (self.tied == tied) & (self.relevant == relevant)
            found[same] = float((first / (above + 1 + drawn)).sum())
        return found


def ranks(queries: Tensor, keys: Tensor, relevant: Relevant) -> Ranks:
    """Return where the first relevant candidate of each query stands by the dot product.

    A relevant candidate whose score is NaN ranks behind all others; an irrelevant one whose score is NaN is behind nothing.

    Args:
        queries: vectors (Q, D).
        keys: vectors (K, D) of the candidates.
        relevant: which candidates are relevant; every query has at least one.
    """
    found = []
    for score, right in _scored(queries, keys, relevant):
        best = score.masked_fill(~right | score.isnan(), -torch.inf).amax(1, keepdim=True)
        lost = best.isneginf()
        above = (((score > best) | lost) & ~right).sum(1)
        tied = ((score == best) & ~right & ~lost).sum(1)
        same = ((score == best) & right).sum(1).clamp_min(1)
        found.append(torch.stack([above, tied, same]))
    return Ranks(*torch.cat(found, 1).unbind())


def chance(counts: Tensor, candidates: int) -> Ranks:
    """Return the ranks of a random order: all `candidates` tied, of which `counts (Q,)` are relevant to each query."""
    return Ranks(torch.zeros_like(counts), candidates - counts, counts)


def average_precision(queries: Tensor, keys: Tensor, relevant: Relevant) -> Tensor:
    """Return the expected average precision (Q,), float64: the mean of the precision at each relevant candidate.

    Without ties it is the average precision of Manning, Raghavan and Schuetze (2008, section 8.4); with ties the expectation
    of McSherry and Najork (2008, section 2.3). Arguments are those of `ranks`.
    """
    found = []
    for score, right in _scored(queries, keys, relevant):
        values, order = score.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf).sort(1, descending=True)
        found.append(_expected_precision(values.numpy(), right.gather(1, order).numpy()))
    return torch.from_numpy(np.concatenate(found))


def _scored(queries: Tensor, keys: Tensor, relevant: Relevant) -> Iterator[tuple[Tensor, Tensor]]:
    # In fp64 and then rounded to fp32: the products of equal vectors are then equal wherever they stand in the matrix.
    transposed = keys.double().T
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        chosen = slice(start, start + QUERIES_AT_ONCE)
        yield (queries[chosen].double() @ transposed).float(), relevant(chosen)


def _expected_precision(values: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the expected average precision (R,) of candidates in descending order of their `values (R, K)`."""
    count = values.shape[1]
    place = np.arange(count)
    begins = np.concatenate([np.ones((len(values), 1), bool), values[:, 1:] != values[:, :-1]], 1)
    first = np.maximum.accumulate(np.where(begins, place, 0), 1)
    ends = np.concatenate([begins[:, 1:], np.ones((len(values), 1), bool)], 1)
    last = np.minimum.accumulate(np.where(ends, place, count)[:, ::-1], 1)[:, ::-1]
    up_to = np.concatenate([np.zeros((len(values), 1), np.int64), right.cumsum(1)], 1)
    before, through = np.take_along_axis(up_to, first, 1), np.take_along_axis(up_to, last + 1, 1)
    size, own = last - first + 1, through - before
    # Of the others of the group, those that stand before this place are relevant in the share of the group.
    earlier = (place - first) * (own - 1) / np.maximum(size - 1, 1)
    precision = own / size * (before + 1 + earlier) / (place + 1)
    return precision.sum(1) / np.maximum(up_to[:, -1], 1)
