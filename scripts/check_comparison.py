"""Measure what the statistics of `mmexp compare` promise, on simulated runs whose truth is known.

python scripts/check_comparison.py [--repeats 2000]

Every metric is a seed's luck, which all configurations share, and noise of each run's own (standard deviation 1 both); heavy
tails are Student's t with 3 degrees of freedom, skewed noise is log-normal, counts are right answers among 40.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

from mmexp.comparison.importance import design, importance, shares
from mmexp.comparison.paired import differences
from mmexp.comparison.statistics import configurations_of
from mmexp.comparison.types import Difference, Run
from mmexp.runs.seeds import student

Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
NOISES: dict[str, Noise] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "heavy tails": lambda rng, shape: rng.standard_t(3, shape) / np.sqrt(3),
    "skewed": lambda rng, shape: (rng.lognormal(0, 1, shape) - np.exp(0.5)) / np.sqrt(np.exp(2) - np.e),
    "counts": lambda rng, shape: rng.normal(size=shape),
}
GRIDS = {
    "2 configurations": ((2,), 5),
    "5 values of one choice": ((5,), 5),
    "2 x 2 grid": ((2, 2), 5),
    "3 x 2 grid": ((3, 2), 5),
    "3 x 2 grid, 3 seeds": ((3, 2), 3),
}


def simulated(rng: np.random.Generator, noise: str, shape: tuple[int, ...], seeds: int, effect: float = 0) -> list[Run]:
    """Return runs of a full grid; the first value of the first choice is better by `effect` standard deviations."""
    luck, own = rng.normal(size=seeds), NOISES[noise](rng, (*shape, seeds))
    values = luck + own
    values[0] += effect
    if noise == "counts":
        values = np.clip(np.round(20 + 2 * values), 0, 40) / 40
    return [
        Run(
            str(place), None, {"seed": place[-1], "status": "completed"}, {"m": float(values[place])}, {}, chosen(place)
        )
        for place in product(*map(range, values.shape))
    ]


def chosen(place: tuple[int, ...]) -> dict[str, str]:
    """Return the choices of one cell of the grid."""
    return {"ab"[axis]: str(value) for axis, value in enumerate(place[:-1])}


def table(runs: list[Run]) -> list[Difference]:
    """Return the differences that `mmexp compare` would print."""
    return differences(runs, configurations_of(runs, "m", True), "m", True)


def false_alarm_rate(noise: str, grid: str, repeats: int) -> float:
    """Return how often a table of equal configurations calls any of them better or worse."""
    rng, (shape, seeds) = np.random.default_rng(0), GRIDS[grid]
    tables = (table(simulated(rng, noise, shape, seeds)) for _ in range(repeats))
    return float(np.mean([any(one.verdict != "too close to call" for one in found) for found in tables]))


def false_alarm_beside_a_difference(noise: str, repeats: int) -> float:
    """Return how often a 3 x 2 grid in which one value is better by 4 calls a difference between what is equal."""
    rng = np.random.default_rng(3)
    tables = (table(simulated(rng, noise, (3, 2), 5, 4)) for _ in range(repeats))
    return float(
        np.mean([any(one.verdict != "too close to call" and _equal(one) for one in found) for found in tables])
    )


def _equal(one: Difference) -> bool:
    """Say whether both sides have the better value of the first choice, or neither has."""
    better = {"a": "0", "b": "-", "configuration": "a=0"}[one.about]
    return (one.first.split()[0] == better) == (one.second.split()[0] == better)


def share_coverage(method: str, noise: str, shape: tuple[int, ...], seeds: int, repeats: int) -> float:
    """Return how often the interval of the first choice's share of variance holds the share over all seeds."""
    rng, effect = np.random.default_rng(4), 2.0
    explained = effect**2 / shape[0] * (1 - 1 / shape[0])
    truth = explained / (explained + 2)
    found = (SHARES[method](simulated(rng, noise, shape, seeds, effect)) for _ in range(repeats))
    return float(np.mean([low <= truth <= high for low, high in found]))


def share_by_jackknife(runs: list[Run]) -> tuple[float, float]:
    """Return the interval of the table."""
    one = next(one for one in importance(runs, "m") if one.group == "a")
    assert one.low is not None and one.high is not None
    return one.low, one.high


def share_by_bootstrap(runs: list[Run]) -> tuple[float, float]:
    """Return the percentile interval of a bootstrap over seeds."""
    y, seeds = np.array([run.metrics["m"] for run in runs]), np.array([run.seed for run in runs])
    chosen = [[run.choices[name] for run in runs] for name in "ab"]
    cells = np.unique(chosen, axis=1, return_inverse=True)[1].ravel()
    count = seeds.max() + 1
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), 500)
    found = shares([design(values) for values in chosen], cells, y, drawn[:, seeds].astype(float))[:, 0]
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))


SHARES = {"jackknife": share_by_jackknife, "bootstrap": share_by_bootstrap}


def power(noise: str, grid: str, effect: float, repeats: int) -> float:
    """Return how often the first choice's first value is called better than its second, where it is by `effect`."""
    rng, (shape, seeds) = np.random.default_rng(1), GRIDS[grid]
    return float(
        np.mean([table(simulated(rng, noise, shape, seeds, effect))[0].verdict == "better" for _ in range(repeats)])
    )


def student_interval(gaps: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Return the interval of the table, uncorrected."""
    half = student(0.05, len(gaps)) * gaps.std(ddof=1) / np.sqrt(len(gaps))
    return gaps.mean() - half, gaps.mean() + half


def bootstrap(method: str) -> Callable[[np.ndarray, np.random.Generator], tuple[float, float]]:
    """Return scipy's bootstrap interval of the mean."""
    from scipy.stats import bootstrap as scipys

    def interval(gaps: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
        found = scipys((gaps,), np.mean, n_resamples=999, method=method, rng=rng).confidence_interval
        return found.low, found.high

    return interval


def studentised(gaps: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Return the bootstrap-t interval (Efron 1979, Hall 1988); resamples of one value have no t and are left out."""
    again = gaps[rng.integers(len(gaps), size=(999, len(gaps)))]
    errors = again.std(1, ddof=1)
    t = (again.mean(1) - gaps.mean())[errors > 1e-12] / errors[errors > 1e-12]
    low, high = np.quantile(t, [0.025, 0.975])
    return gaps.mean() - high * gaps.std(ddof=1), gaps.mean() - low * gaps.std(ddof=1)


INTERVALS = {
    "Student's t": student_interval,
    "percentile bootstrap": bootstrap("percentile"),
    "BCa bootstrap": bootstrap("BCa"),
    "bootstrap-t": studentised,
}


def coverage(method: str, noise: str, pairs: int, repeats: int) -> tuple[float, float]:
    """Return how often a 95 % interval of a mean difference holds the truth (0), and its median width."""
    rng = np.random.default_rng(2)
    gaps = NOISES[noise](rng, (repeats, pairs)) - NOISES[noise](rng, (repeats, pairs))
    found = np.array([INTERVALS[method](one, rng) for one in gaps])
    return float(((found[:, 0] <= 0) & (found[:, 1] >= 0)).mean()), float(np.median(found[:, 1] - found[:, 0]))


def lines(repeats: int) -> Iterator[str]:
    """Yield the tables."""
    yield f"false alarms: tables of equal configurations that call any difference ({repeats} each)"
    yield f"  {'':<26}" + "".join(f"{noise:>14}" for noise in NOISES)
    for grid in GRIDS:
        yield f"  {grid:<26}" + "".join(f"{false_alarm_rate(noise, grid, repeats):>14.1%}" for noise in NOISES)
    rates = "".join(f"{false_alarm_beside_a_difference(noise, repeats):>14.1%}" for noise in NOISES)
    yield f"  {'3 x 2 grid, one value +4':<26}" + rates
    yield "\npower: a difference of so many standard deviations of a run's noise is called"
    for grid in GRIDS:
        for effect in (1, 2, 4):
            rates = "".join(f"{power(noise, grid, effect, repeats // 4):>14.0%}" for noise in NOISES)
            yield f"  {grid + f', {effect}':<26}" + rates
    yield "\ncoverage of 95 % intervals of a choice's share of variance"
    for method, (shape, seeds) in product(SHARES, (((2, 2), 3), ((2, 2), 5), ((3, 2), 5), ((3, 2), 10))):
        told = (share_coverage(method, noise, shape, seeds, repeats // 4) for noise in list(NOISES)[:2])
        name = f"{method}, {shape[0]} x {shape[1]} grid, {seeds} seeds"
        yield f"  {name:<32}" + "".join(f"{rate:>14.1%}" for rate in told)
    yield "\ncoverage of 95 % intervals of the mean difference, and median width"
    for pairs in (5, 10):
        for method in INTERVALS:
            told = (coverage(method, noise, pairs, repeats) for noise in list(NOISES)[:3])
            yield f"  {f'{method}, {pairs} pairs':<32}" + "".join(f"{rate:>9.1%} ({width:.1f})" for rate, width in told)


def main() -> None:
    """Print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000)
    for line in lines(parser.parse_args().repeats):
        print(line, flush=True)


if __name__ == "__main__":
    main()
