"""Differences between choices, paired by seed: the test, its correction for many, and intervals that agree with both."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import hypot, sqrt
from typing import Literal

import numpy as np

from mmexp.comparison.types import Configuration, Difference, Run, Verdict
from mmexp.runs.seeds import student

ALPHA = 0.05
LEAST = 3  # pairs for a test, seeds for seeds to be the unit
# Half of the error that the table may make is the choices', half that of whole configurations, of which there are more pairs.
_HALF = 0.5


@dataclass(frozen=True)
class Pairs:
    """`first` minus `second` on the metric: a gap a unit, each the mean of `averaged` runs' gaps. `weight` is Holm's."""

    about: str
    first: str
    second: str
    gaps: np.ndarray
    unit: Literal["seed", "block"] = "seed"
    averaged: float = 1
    weight: float = 1
    shown: bool = True


def differences(
    runs: Sequence[Run], configurations: Sequence[Configuration], metric: str, rises: bool
) -> list[Difference]:
    """Return what each choice changes, and the best of `configurations` against every other.

    The best was found by looking at all, so that all pairs of configurations count in the correction. With a single choice
    the configurations are its values, and told once.
    """
    about = [_weighted(list(of_choices(runs, metric)), _HALF)]
    if sum(1 for _ in _varied(runs)) != 1:
        about.append(_weighted(list(of_configurations(configurations, metric)), _HALF))
    step = resolution([run.metrics[metric] for run in runs])
    return judged([pairs for family in about for pairs in family], step, rises)


def _weighted(family: list[Pairs], share: float) -> list[Pairs]:
    tested = sum(len(pairs.gaps) >= LEAST for pairs in family)
    return [replace(pairs, weight=share / max(tested, 1)) for pairs in family]


def _varied(runs: Sequence[Run]) -> Iterator[str]:
    names = dict.fromkeys(name for run in runs for name in run.choices)
    yield from (name for name in names if len({run.choices.get(name) for run in runs}) > 1)


def of_choices(runs: Sequence[Run], metric: str) -> Iterator[Pairs]:
    """Yield every pair of values of every choice, over the runs that share all else.

    Runs of one seed in different blocks have their luck in common, so that a seed is one pair however many blocks there are.
    """
    for about in _varied(runs):
        cells: dict[tuple, dict[str, float]] = defaultdict(dict)
        for run in runs:
            block = tuple(sorted((key, value) for key, value in run.choices.items() if key != about))
            cells[block, run.seed][run.choices[about]] = run.metrics[metric]
        place = {value: number for number, value in enumerate(dict.fromkeys(run.choices[about] for run in runs))}
        found: dict[tuple[str, str], dict[tuple, float]] = defaultdict(dict)
        for key, cell in cells.items():
            for first, second in combinations(sorted(cell, key=place.__getitem__), 2):
                found[first, second][key] = cell[first] - cell[second]
        for first, second in sorted(found, key=lambda pair: (place[pair[0]], place[pair[1]])):
            yield Pairs(about, first, second, *_units(found[first, second]))


def _units(gaps: Mapping[tuple, float]) -> tuple[np.ndarray, Literal["seed", "block"], float]:
    """Return the gaps by seed, each averaged over its blocks; by block where seeds are too few and blocks are not."""
    by: dict[str, dict] = {"block": defaultdict(list), "seed": defaultdict(list)}
    for (block, seed), gap in gaps.items():
        by["block"][block].append(gap)
        by["seed"][seed].append(gap)
    unit: Literal["seed", "block"] = "block" if len(by["seed"]) < LEAST <= len(by["block"]) else "seed"
    means = np.array([np.mean(one) for one in by[unit].values()])
    return means, unit, len(gaps) / len(means)


def of_configurations(configurations: Sequence[Configuration], metric: str) -> Iterator[Pairs]:
    """Yield every pair of whole configurations, which are in the order of their choice; to be shown are those with the first."""
    ranked = list(configurations)
    values = [{run.seed: run.metrics[metric] for run in one.runs} for one in ranked]
    for i, j in combinations(range(len(ranked)), 2):
        shared = values[i].keys() & values[j].keys()
        if shared and (i == 0 or len(shared) >= LEAST):
            gaps = np.array([values[i][seed] - values[j][seed] for seed in sorted(shared)])
            yield Pairs("configuration", label(ranked[i].choices), label(ranked[j].choices), gaps, shown=i == 0)


def label(choices: Mapping[str, str]) -> str:
    """Return choices as on a command line: `encoder=vit fusion=concat`."""
    return " ".join(f"{key}={value}" for key, value in choices.items())


def resolution(values: Sequence[float]) -> float:
    """Return the step in which a metric counts, such as 1/200 for an accuracy over 200 rows; else what fp32 resolves."""
    spread = np.unique(values)
    finest = 1e-6 * float(np.abs(spread).max(initial=0))
    gaps = np.diff(spread)
    gaps = gaps[gaps > finest]
    if not len(gaps):
        return finest
    counts = gaps / gaps.min()
    return float(gaps.min()) if np.abs(counts - counts.round()).max() < 0.01 else finest


def standard_error(pairs: Pairs, step: float) -> float:
    """Return the standard error of the mean gap.

    Seeds whose gaps agree to the last row are no proof that all seeds would: half a step is added to how they scatter, so
    that a coarse metric of few rows decides nothing by coincidence.
    """
    scatter = hypot(float(np.std(pairs.gaps, ddof=1)), step / 2 / sqrt(pairs.averaged))
    return scatter / sqrt(len(pairs.gaps))


def judged(compared: Sequence[Pairs], step: float, rises: bool) -> list[Difference]:
    """Return the differences to be shown, corrected for all of them: paired t test (Student 1908), Holm (1979)."""
    from scipy.special import stdtr

    tested = [pairs for pairs in compared if len(pairs.gaps) >= LEAST]
    errors = [standard_error(pairs, step) for pairs in tested]
    p = [
        2 * float(stdtr(len(pairs.gaps) - 1, -abs(pairs.gaps.mean()) / error)) if error else 1.0
        for pairs, error in zip(tested, errors, strict=True)
    ]
    corrected, levels = holm(p, [pairs.weight for pairs in tested])
    known = {id(pairs): told for pairs, *told in zip(tested, errors, p, corrected, levels, strict=True)}
    return [_difference(pairs, known.get(id(pairs)), rises) for pairs in compared if pairs.shown]


def holm(p: Sequence[float], weights: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return p values corrected by Holm's step-down procedure with weights (Holm 1979), and the level of each interval.

    A level is what the procedure held a p value against when it came to it, or when it stopped: an interval of that level
    excludes zero exactly where the corrected p value is at most `ALPHA`.
    """
    corrected, levels = [1.0] * len(p), [ALPHA] * len(p)
    left = held = sum(weights)
    highest = 0.0
    for i in sorted(range(len(p)), key=lambda i: p[i] / weights[i]):
        held = left if highest <= ALPHA else held
        highest = max(highest, min(1.0, p[i] * left / weights[i]))
        corrected[i], levels[i] = highest, ALPHA * weights[i] / held
        left -= weights[i]
    return corrected, levels


def _difference(pairs: Pairs, told: Sequence[float] | None, rises: bool) -> Difference:
    mean = float(pairs.gaps.mean())
    same = (pairs.about, pairs.first, pairs.second, len(pairs.gaps), mean)
    if told is None:
        return Difference(*same, None, None, None, None, "too close to call", pairs.unit)
    error, p, corrected, level = told
    half = student(level, len(pairs.gaps)) * error
    verdict: Verdict = "too close to call"
    if corrected <= ALPHA:
        verdict = "better" if (mean > 0) == rises else "worse"
    return Difference(*same, mean - half, mean + half, p, corrected, verdict, pairs.unit)
