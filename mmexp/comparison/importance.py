"""Which choice matters: the variance of the metric over runs, shared out among the choices."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from mmexp.comparison.types import Importance, Run
from mmexp.runs.seeds import student

_FEW = 4  # a numeric choice of more values is taken by rank


def importance(runs: Sequence[Run], metric: str) -> list[Importance]:
    """Return the share of each choice, of `interactions`, and of `seed` (runs that differ in nothing else).

    The choices' shares are sums of squares of type II over the total: in a balanced grid those of the analysis of variance
    (eta squared), else what a choice explains beyond all others. `shared` is what several explain and none of them alone.
    Nothing where the metric does not vary, or where there are no more runs than the choices could fit exactly.
    """
    y = np.array([run.metrics[metric] for run in runs])
    groups = [name for name in dict.fromkeys(k for run in runs for k in run.choices) if _varies(name, runs)]
    if not groups or np.ptp(y) <= 1e-6 * np.abs(y).max():
        return []
    cells = np.unique([[run.choices[name] for name in groups] for run in runs], axis=0, return_inverse=True)[1].ravel()
    repeated = len(set(cells)) < len(cells)
    # A single choice has no interactions in which to tell what a curve leaves over.
    few = len(runs) if len(groups) == 1 and repeated else _FEW
    columns = [design([run.choices[name] for run in runs], few) for name in groups]
    if np.linalg.matrix_rank(np.hstack([np.ones((len(y), 1)), *columns])) >= len(y):
        return []
    names = [*groups, "shared", "interactions" if repeated else "interactions and seed", "seed"]
    found = shares(columns, cells, y, np.ones((1, len(y))))[0]
    units = np.array([run.seed for run in runs]) if repeated else np.arange(len(y))
    sure = _intervals(columns, cells, y, units)
    told = [Importance(n, float(share), *ends) for n, share, ends in zip(names, found, sure, strict=True)]
    first, (shared, crossed, luck) = sorted(told[:-3], key=lambda one: -one.share), told[-3:]
    return [
        *first,
        *([Importance("shared", shared.share, None, None)] if abs(shared.share) > 0.005 else []),
        *([crossed] if len(groups) > 1 or not repeated else []),
        *([luck] if repeated else []),
    ]


def _varies(name: str, runs: Sequence[Run]) -> bool:
    return len({run.choices[name] for run in runs}) > 1


def design(values: Sequence[str], few: int = _FEW) -> np.ndarray:
    """Return the columns (N, C) by which a choice enters: one a value, for more than `few` numbers their rank and its square.

    Ranks do not ask whether a learning rate is to be read on a logarithmic scale; the square lets the best lie between.
    """
    numbers = np.array([_number(value) for value in values])
    there = np.isfinite(numbers)
    levels = np.unique(numbers[there], return_inverse=True)[1]
    if levels.max(initial=0) < few:
        return np.stack([[value == level for value in values] for level in dict.fromkeys(values)], 1).astype(float)
    rank = np.zeros(len(values))
    rank[there] = levels / levels.max() * 2 - 1
    words = dict.fromkeys(value for value in values if np.isnan(_number(value)))
    others = [[value == word for value in values] for word in words]
    return np.stack([rank, rank**2, *np.array(others, float)], 1)


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("nan")


def shares(columns: Sequence[np.ndarray], cells: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the shares (B, G + 3) of G choices, of what they share, of interactions and of what is left, for weights (B, N).

    `columns` are those of each choice, `cells` (N,) number the configurations, `y` (N,) is the metric.
    """
    whole = np.hstack([np.ones((len(y), 1)), *columns])
    ends = np.cumsum([1, *(c.shape[1] for c in columns)])
    totals = weights.sum(1, keepdims=True)
    centred = y - weights @ y[:, None] / totals  # (B, N)
    total = (weights * centred**2).sum(1)
    gram = np.einsum("bn,np,nq->bpq", weights, whole, whole, optimize=True)
    moments = (weights * centred) @ whole
    main = _explained(gram, moments, np.arange(whole.shape[1]))
    without = [_explained(gram, moments, np.r_[0:start, end : whole.shape[1]]) for start, end in pairwise(ends)]
    own = np.stack([main - less for less in without], 1)
    member = np.eye(cells.max() + 1)[cells]  # (N, cells)
    between = (((weights * centred) @ member) ** 2 / np.maximum(weights @ member, 1)).sum(1)
    parts = np.column_stack([own, main - own.sum(1), between - main, total - between])
    parts = np.divide(parts, total[:, None], out=np.zeros_like(parts), where=total[:, None] > 1e-12 * (y**2).max())
    return parts.round(12) + 0.0  # no -0.0


def _explained(gram: np.ndarray, moments: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the sum of squares (B,) that the chosen columns explain; columns that say the same count once."""
    inverse = np.linalg.pinv(gram[:, chosen][:, :, chosen], rcond=1e-10, hermitian=True)
    return np.einsum("bp,bpq,bq->b", moments[:, chosen], inverse, moments[:, chosen], optimize=True)


def _intervals(
    columns: Sequence[np.ndarray], cells: np.ndarray, y: np.ndarray, units: np.ndarray
) -> list[tuple[float | None, float | None]]:
    """Return 95 % intervals of the shares; none for fewer than three `units` (N,): seeds, or runs where none has a twin.

    The jackknife over units of the logit of a share, as Arvesen and Schmitz (1970) do for ratios of variances, with Student's
    t. Few seeds are too few for a bootstrap of shares (scripts/check_comparison.py measures both).
    """
    each = np.unique(units)
    if len(each) < 3:
        return [(None, None)] * (len(columns) + 3)
    without = np.array([units != unit for unit in each], float)
    whole = _logit(shares(columns, cells, y, np.ones((1, len(y)))), len(each))[0]
    less = shares(columns, cells, y, without)
    if not less.sum(1).all():  # without one of the units nothing varies any more
        return [(None, None)] * (len(columns) + 3)
    left = _logit(less, len(each) - 1)
    half = student(0.05, len(each)) * np.sqrt((len(each) - 1) / len(each) * ((left - left.mean(0)) ** 2).sum(0))
    low, high = 1 / (1 + np.exp(half - whole)), 1 / (1 + np.exp(-half - whole))
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _logit(parts: np.ndarray, seeds: int) -> np.ndarray:
    """Return the logits of shares, that of `seed` (the last) raised by what the sample's own mean took of it."""
    parts = parts * np.r_[np.ones(parts.shape[1] - 1), seeds / (seeds - 1)]
    parts = np.clip(parts / parts.sum(1, keepdims=True), 1e-4, 1 - 1e-4)
    return np.log(parts / (1 - parts))
