"""Runs that differ in their seed alone, taken together: the mean of each metric and how sure it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev
from typing import Any


@dataclass(frozen=True)
class Interval:
    """A mean over `count` seeds, and the half width of its 95 % interval by Student's t; None for a single seed."""

    mean: float
    half: float | None
    count: int


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of `values` with its interval."""
    if len(values) < 2:
        return Interval(values[0], None, 1)
    return Interval(mean(values), student(0.05, len(values)) * stdev(values) / sqrt(len(values)), len(values))


def student(level: float, count: int) -> float:
    """Return Student's quantile for a two-sided interval of 1 - `level` around the mean of `count` values."""
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    return float(stdtrit(count - 1, 1 - level / 2))


def over_seeds(rows: Sequence[Mapping[str, Any]], choices: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return for each set of `choices` but the seed: `choices`, how many `runs`, and `metrics`, an `Interval` each.

    `rows` hold the `metrics` of runs, `choices` what was chosen for them.
    """
    groups: dict[tuple[tuple[str, str], ...], list[dict[str, float]]] = {}
    for row, chosen in zip(rows, choices, strict=True):
        groups.setdefault(tuple((k, v) for k, v in chosen.items() if k != "seed"), []).append(row["metrics"])
    return [{"choices": dict(key), "runs": len(group), "metrics": _means(group)} for key, group in groups.items()]


def _means(group: Sequence[Mapping[str, float]]) -> dict[str, Interval]:
    names = dict.fromkeys(name for metrics in group for name in metrics)
    return {name: interval([metrics[name] for metrics in group if name in metrics]) for name in names}
