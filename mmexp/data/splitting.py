"""Which rows of train are held out for validation where the user names no such split."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from mmexp.errors import RequestError

# Bins of equal counts by which numbers are stratified, and rows with a number from which on they are.
_BINS, _ROWS_TO_BIN = 5, 50
WAY_OUT = "Set data.val=PATH, or data.val_fraction=0 to train without validation."


def groups_of(items: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
    """Return group numbers (N,): rows that share an item of any modality, directly or by way of others, are one group.

    Args:
        items: from modality to item numbers (N,), -1 where a row lacks it.
        rows: N.
    """
    first, rows_of, nodes = rows, [], []
    for own in items.values():
        there = np.flatnonzero(own >= 0)
        number = np.unique(own[there], return_inverse=True)[1]
        rows_of.append(there)
        nodes.append(number + first)
        first += len(number)
    if not rows_of:
        return np.arange(rows)
    # Imported here, since a run whose data have a split of their own needs none of scipy.
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = (np.concatenate(rows_of), np.concatenate(nodes))
    graph = coo_matrix((np.ones(len(edges[0]), dtype=bool), edges), shape=(first, first))
    return np.unique(connected_components(graph, directed=False)[1][:rows], return_inverse=True)[1]


def merged(groups: np.ndarray, items: np.ndarray, largest: int, rows: np.ndarray | None = None) -> np.ndarray:
    """Return `groups (N,)` joined where rows share an item, as long as no joined group exceeds `largest` rows.

    Items of few rows come first, so that a generic caption of many rows joins nothing.

    Args:
        groups: group numbers (N,).
        items: item numbers (M,), negative for none.
        largest: rows of the largest group that may come of it.
        rows: the row (M,) of each item, where rows have several; None: row i has item i.
    """
    rows = np.arange(len(groups)) if rows is None else rows
    parent = np.arange(groups.max() + 1)
    size = np.bincount(groups)

    def root(group: int) -> int:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = int(parent[group])
        return group

    there = np.flatnonzero(items >= 0)
    order = there[np.argsort(items[there], kind="stable")]
    shared = np.split(rows[order], np.flatnonzero(np.diff(items[order])) + 1)
    for having in sorted((one for one in shared if len(one) > 1), key=len):
        roots = {root(int(group)) for group in groups[having]}
        if sum(int(size[one]) for one in roots) <= largest:
            target = min(roots)
            size[target] = sum(size[one] for one in roots)
            parent[list(roots)] = target
    return np.unique([root(int(group)) for group in groups], return_inverse=True)[1]


def strata_of(labels: np.ndarray, targets: np.ndarray | None, number: np.ndarray | None) -> np.ndarray | None:
    """Return by what rows are stratified (N,), -1 where nothing is known of a row; None where nothing is known of any.

    Args:
        labels: (N,), -1 for none.
        targets: (N, C) of several labels a row; a row counts for the rarest of its labels.
        number: (N,), NaN for none; stratified by quantiles.
    """
    if targets is not None and targets.shape[1]:
        count = (targets > 0.5).sum(0)
        rarest = np.where(targets > 0.5, count, len(targets) + 1).argmin(1)
        strata = np.where((targets > 0.5).any(1), rarest, np.where(np.isnan(targets).all(1), -1, targets.shape[1]))
    elif (labels >= 0).any() or number is None:
        strata = labels
    else:
        known = ~np.isnan(number)
        bins = _BINS if known.sum() >= _ROWS_TO_BIN else 1
        edges = np.quantile(number[known], np.linspace(0, 1, bins + 1)[1:-1]) if known.any() else []
        strata = np.where(known, np.searchsorted(edges, number, side="right"), -1)
    return strata if (strata >= 0).any() else None


def allotted(strata: np.ndarray, rows: int) -> dict[int, int]:
    """Return how many of `rows` each stratum is allotted: in proportion, by largest remainder, and never all of a stratum."""
    names, counts = np.unique(strata, return_counts=True)
    exact = counts * rows / len(strata)
    # Of what is known of no row, all may be held out.
    most = np.where(names >= 0, counts - 1, counts)
    given = np.minimum(np.floor(exact).astype(int), most)
    for place in np.argsort(given - exact, kind="stable"):
        if given.sum() < rows and given[place] < most[place]:
            given[place] += 1
    return dict(zip(names.tolist(), given.tolist(), strict=True))


def held_out(groups: np.ndarray, fraction: float, strata: np.ndarray | None = None) -> np.ndarray:
    """Return (N,) true for a `fraction` of the rows in whole groups, and of each stratum its share as far as groups allow.

    Which ones is the same in every run: it does not depend on the seed. No stratum is held out whole. A group larger than the
    wanted share is taken only where every group is, and then the smallest.

    Args:
        groups: group numbers (N,).
        fraction: the wanted share of the rows, above 0.
        strata: (N,), -1 where nothing is known of a row; None: rows are not stratified.

    Raises:
        RequestError: there is one group, or the smallest one that may be taken is more than a third of the rows.
    """
    wanted = max(1, min(round(fraction * len(groups)), len(groups) - 1))
    known = np.full(len(groups), -1) if strata is None else strata
    members = _members(groups)
    held = np.zeros(len(groups), dtype=bool)
    for room in (allotted(known, wanted), _all_but_one(known)):
        left = wanted - int(held.sum())
        taken = Counter(known[held].tolist())
        for rows in members:
            own = Counter(known[rows].tolist())
            fits = all(taken[stratum] + count <= room[stratum] for stratum, count in own.items())
            if fits and len(rows) <= left and not held[rows[0]]:
                held[rows] = True
                taken.update(own)
                left -= len(rows)
    if not held.any() or held.all():
        held[_smallest(members, known)] = True
    return held


def _members(groups: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each group, the groups in a random order that is always the same."""
    order = np.argsort(groups, kind="stable")
    each = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return [each[place] for place in np.random.default_rng(0).permutation(len(each))]


def _all_but_one(strata: np.ndarray) -> dict[int, int]:
    names, counts = np.unique(strata, return_counts=True)
    return dict(zip(names.tolist(), np.where(names < 0, counts, counts - 1).tolist(), strict=True))


def _smallest(members: list[np.ndarray], strata: np.ndarray) -> np.ndarray:
    """Return the rows of the smallest group that is no stratum as a whole. Raises RequestError where that is too large."""
    room, total = _all_but_one(strata), len(strata)
    fitting = [
        rows for rows in members if all(n <= room[stratum] for stratum, n in Counter(strata[rows].tolist()).items())
    ]
    rows = min(fitting, key=len, default=None)
    if rows is None or len(members) < 2 or len(rows) > max(1, total // 3):
        raise RequestError(
            f"no part of the {_counted(total, 'row')} of train can be held out for validation: they are "
            f"{_counted(len(members), 'group')} of rows that belong together, the smallest of "
            f"{_counted(min(map(len, members)), 'row')}, or each is the last one of its class. {WAY_OUT}"
        )
    return rows


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
