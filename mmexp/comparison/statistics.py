"""The comparison of runs on one metric: which runs count, what they come to, what it cost."""

import math
from collections.abc import Iterator, Sequence
from typing import cast

from mmexp.comparison.costs import fronts
from mmexp.comparison.importance import importance
from mmexp.comparison.paired import LEAST, differences
from mmexp.comparison.types import Comparison, Configuration, Difference, Run
from mmexp.errors import RequestError, nearest
from mmexp.metrics import higher_is_better, metric_of, selected_by
from mmexp.runs.holding import held
from mmexp.runs.seeds import interval
from mmexp.runs.sweep_table import main_metrics


def compare(runs: Sequence[Run], metric: str | None = None) -> Comparison:
    """Return `runs` side by side on `metric`, by default the most telling; what is best is chosen by the same of `val`.

    `NAME:max` or `NAME:min` says which way is better of a metric that is none of ours. Raises RequestError for a metric that
    no run has, and for one without a direction.
    """
    newest = _newest(runs)
    asked, _, way = (metric or "").partition(":")
    chosen = _metric(newest, asked or None)
    rises = {"max": True, "min": False}.get(way, higher_is_better(chosen))
    if rises is None:
        known = (
            "no value of it is better than another"
            if metric_of(chosen)
            else "it is not known whether more of it is better"
        )
        raise RequestError(f"--metric {chosen}: {known}. Write --metric {chosen}:max or --metric {chosen}:min.")
    counted = [run for run in newest if counts(run, chosen)]
    selected = selected_by(chosen, [run.metrics for run in counted])
    counted = [run for run in counted if counts(run, selected)]
    configurations = configurations_of(counted, chosen, rises, selected)
    found = differences(counted, configurations, chosen, rises)
    return Comparison(
        metric=chosen,
        rises=rises,
        runs=runs,
        configurations=configurations,
        importance=importance(counted, chosen),
        differences=found,
        fronts=fronts(counted, selected, rises),
        notes=[*_notes(runs, newest, counted, found), *_selection(chosen, selected)],
        selected=selected,
    )


def status(run: Run) -> str:
    """Return how a run ended; `pruned` for one that a search stopped early, `died` for one that nobody works on any more."""
    told = str(run.facts.get("status"))
    if told == "running" and run.directory and not held(run.directory):
        return "died"
    return "pruned" if str(run.facts.get("stopped", "")).startswith("pruned") else told


def counts(run: Run, metric: str) -> bool:
    """Say whether a run is in the statistics: it went to its end and measured the metric."""
    return status(run) == "completed" and math.isfinite(run.metrics.get(metric, math.nan))


def _newest(runs: Sequence[Run]) -> list[Run]:
    """Return of the completed runs of one configuration and seed the newest, and all others."""
    last: dict[tuple, Run] = {}
    for run in sorted(runs, key=_began):
        finished = status(run) == "completed"
        last[(run.seed, *sorted(run.choices.items())) if finished else (run.name,)] = run
    kept = {id(run) for run in last.values()}
    return [run for run in runs if id(run) in kept]


def _began(run: Run) -> float:
    """Return when a run began; for one that does not say so, when its record was last written."""
    began = run.facts.get("began")
    record = run.directory / "run.json" if run.directory else None
    return float(began) if began else record.stat().st_mtime if record and record.is_file() else 0.0


def _metric(runs: Sequence[Run], asked: str | None) -> str:
    """Return the metric asked for, else of the most telling the one that most runs have, and that differs among them."""
    finished = [dict(run.metrics) for run in runs if status(run) == "completed"]
    names = sorted({name for metrics in finished for name in metrics})
    if not names:
        raise RequestError("none of these runs was completed with metrics: there is nothing to compare yet.")
    if asked:
        if asked not in names:
            raise RequestError(f"--metric {asked}: no run measured it.{_near(asked, names)}")
        return asked

    def telling(name: str) -> tuple[int, bool]:
        values = [metrics[name] for metrics in finished if name in metrics]
        return len(values), len(set(values)) > 1

    return max(main_metrics(finished) or names, key=telling)


def _near(asked: str, names: Sequence[str]) -> str:
    near = nearest(asked, names)
    return near if "Did you mean" in near else f" There is {', '.join(main_metrics([dict.fromkeys(names, 0.0)]))}, ..."


def configurations_of(
    runs: Sequence[Run], metric: str, rises: bool, selected: str | None = None
) -> list[Configuration]:
    """Return the runs by what was chosen, the best mean of `selected` first (None: of the metric itself).

    The interval is Student's over seeds.
    """
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run.choices.items()), []).append(run)
    found = []
    for choices, group in groups.items():
        one = interval([run.metrics[metric] for run in group])
        low, high = (None, None) if one.half is None else (one.mean - one.half, one.mean + one.half)
        by = interval([run.metrics[selected or metric] for run in group]).mean
        found.append(Configuration(dict(choices), group, one.mean, low, high, by))
    return sorted(found, key=lambda one: cast(float, one.selected), reverse=rises)


def _selection(metric: str, selected: str) -> Iterator[str]:
    """Yield by what the best is chosen, where there is something to choose."""
    if selected != metric:
        yield f"the best is chosen by {selected}; {metric} is only reported"
    elif not metric.startswith("val/"):
        yield f"the best is chosen by {metric} itself, which flatters the best: not all runs measured the same on val"


def _notes(
    runs: Sequence[Run], newest: Sequence[Run], counted: Sequence[Run], found: Sequence[Difference]
) -> Iterator[str]:
    """Yield what a reader of the statistics must know."""
    inside, current = {id(run) for run in counted}, {id(run) for run in newest}
    if older := [run.name for run in runs if id(run) not in current]:
        yield f"{_some(older)}: same configuration and seed as a newer run, which counts"
    left: dict[str, list[str]] = {}
    for run in newest:
        if id(run) not in inside:
            left.setdefault("without the metric" if status(run) == "completed" else status(run), []).append(run.name)
    for why, names in left.items():
        yield f"{_some(names)}: {why}, not in the statistics"
    if len({run.facts.get("data_fingerprint") for run in counted if "data" not in run.choices}) > 1:
        yield "these runs were not measured on the same data (data_fingerprint in run.json)"
    if any(one.unit == "block" for one in found):
        yield f"fewer than {LEAST} seeds: blocks of other choices are the pairs, and another seed may decide otherwise"
    if len(counted) > 1 and not any(run.choices for run in counted):
        yield "all runs are of one configuration: they differ in their seeds alone"
    if untested := [one.pairs for one in found if one.p is None]:
        few = max(untested)
        yield f"too close to call: {few} seed{'s' * (few > 1)} in common, add seed=0,1,2,3,4 to all"


def _some(names: Sequence[str], most: int = 8) -> str:
    many = f" and {len(names) - most} more" if len(names) > most else ""
    return f"run{'s' * (len(names) > 1)} {', '.join(names[:most])}{many}"
