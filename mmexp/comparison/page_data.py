"""What the page of a comparison is told, as plain data: runs, their metrics, costs, histories and settings."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from statistics import mean
from typing import Any
from urllib.parse import quote

from mmexp.comparison.costs import cost_of
from mmexp.comparison.galleries import galleries_of
from mmexp.comparison.statistics import status
from mmexp.comparison.types import Comparison, Difference, Importance, Run
from mmexp.metrics import higher_is_better
from mmexp.runs.sweep_table import main_metrics
from mmexp.runs.table import Number, read_numbers

_POINTS = 300  # of a curve
_COSTS = {
    "train_seconds": "seconds of training",
    "wall_seconds": "seconds in all",
    "parameters": "weights",
    "trainable": "trained weights",
    "peak_memory_bytes": "memory, GB",
    "train_flops": "FLOPs of training",
}


def page_data(comparison: Comparison, path: Path) -> dict[str, Any]:
    """Return all that the page at `path` shows."""
    runs, groups = comparison.runs, groups_of(comparison)
    chosen = _choices(runs)
    return {
        "metric": comparison.metric,
        "selected": comparison.selected,
        "metrics": _metrics(comparison),
        "main": main_metrics([dict(run.metrics) for run in runs]),
        "costs": {name: words for name, words in _COSTS.items() if any(_cost(run, name) is not None for run in runs)},
        "choices": list(dict.fromkeys(name for choices in chosen for name in choices)),
        "groups": [{"label": label_of(dict(group)), "title": _pairs(dict(group))} for group in groups],
        "runs": [_run(run, groups, path) | {"choices": choices} for run, choices in zip(runs, chosen, strict=True)],
        "settings": _settings(runs),
        **_statistics(comparison, groups),
        **galleries_of(runs),
    }


def _choices(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Return what was chosen for each run, and its seed where runs differ in it."""
    seeds = len({run.seed for run in runs}) > 1
    return [{**run.choices, **({"seed": str(run.seed)} if seeds else {})} for run in runs]


Group = tuple[tuple[str, str], ...]


def _group(choices: Mapping[str, str]) -> Group:
    return tuple((name, str(value)) for name, value in choices.items() if name != "seed")


def groups_of(comparison: Comparison) -> list[Group]:
    """Return the choices without the seed of every configuration, the best by the comparison's choice first."""
    values: dict[Group, list[float]] = {}
    for run in comparison.runs:
        value = run.metrics.get(comparison.selected)
        values.setdefault(_group(run.choices), []).extend([] if value is None or not isfinite(value) else [value])
    sign = -1 if comparison.rises else 1
    return sorted(values, key=lambda group: (not values[group], sign * mean(values[group] or [0.0])))


def label_of(choices: Mapping[str, str]) -> str:
    """Return the choices in short: a name tells itself, a number or a switch needs its key."""
    told = [
        _brief(value) if any(map(str.isalpha, value)) and value not in ("true", "false") else f"{_last(name)} {value}"
        for name, value in choices.items()
    ]
    return " · ".join(dict.fromkeys(told)) or "all runs"


def _brief(value: str, most: int = 16) -> str:
    return value if len(value) <= most else f"{value[: most - 1]}…"


def _last(name: str) -> str:
    return name.replace("/", ".").rpartition(".")[2]


def _pairs(choices: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in choices.items())


def _metrics(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Return every final metric, the most telling first, and what was logged, with words and direction."""
    everything = {name: value for run in comparison.runs for name, value in run.metrics.items()}
    numbers = read_numbers(everything)
    found = {f"{n.split}/{n.metric}" if n.split else n.metric: n for n in numbers if n.final is not None}
    logged = sorted({name for run in comparison.runs for row in run.history for name in row if _is_drawn(name)})
    told = {
        name: {**_words(name), "final": name in found}
        for name in [comparison.selected, comparison.metric, *found, *logged]
    }
    own = {
        name: {**_words(name), "rises": comparison.rises, "final": True}
        for name in (comparison.selected, comparison.metric)
    }
    return told | own


def _words(name: str) -> dict[str, Any]:
    split, _, metric = name.rpartition("/")
    number = Number(split, metric, None)
    return {"split": split, "words": number.words, "share": number.is_share, "rises": higher_is_better(metric)}


def _run(run: Run, groups: Sequence[Group], path: Path) -> dict[str, Any]:
    facts = run.facts
    page = run.directory / "report.html" if run.directory else None
    link = (
        quote(Path(os.path.relpath(page.resolve(), path.resolve().parent)).as_posix())
        if page and page.is_file()
        else None
    )
    return {
        "name": run.name,
        "link": link,
        "status": status(run),
        "note": str(facts.get("error") or facts.get("stopped") or ""),
        "group": groups.index(_group(run.choices)),
        "metrics": {name: value for name, value in run.metrics.items() if isfinite(value)},
        "costs": {name: cost for name in _COSTS if (cost := _cost(run, name)) is not None},
        "each": _of_a_step(facts),
        "curves": _curves(run.history),
    }


def _cost(run: Run, name: str) -> float | None:
    value = cost_of(run, name)
    return None if value is None else value / 1e9 if name == "peak_memory_bytes" else value


def _of_a_step(facts: Mapping[str, Any]) -> dict[str, float]:
    """Return how many samples and seconds a step took on average."""
    steps, told = facts.get("steps"), {"samples": facts.get("samples_seen"), "seconds": facts.get("train_seconds")}
    return {name: value / steps for name, value in told.items() if value and steps}


def _curves(history: Sequence[Mapping[str, float]]) -> dict[str, list[list[float]]]:
    """Return of each metric that was logged more than once its steps and values, at most `_POINTS`."""
    names = {name for row in history for name in row if _is_drawn(name)}
    curves = {}
    for name in sorted(names):
        points = [(row["step"], row[name]) for row in history if name in row and isfinite(row[name])]
        if len(points) > 1:
            count = min(_POINTS, len(points))
            kept = [points[i * (len(points) - 1) // (count - 1)] for i in range(count)]
            curves[name] = [[step for step, _ in kept], [float(f"{value:.5g}") for _, value in kept]]
    return curves


def _is_drawn(metric: str) -> bool:
    return metric.startswith(("val", "train/loss"))


def _settings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the keys of the configurations that are not the same in all runs, with the value in each."""
    flat = [_flat(run.config) for run in runs]
    names = dict.fromkeys(name for one in flat for name in one)
    told = {name: [str(one.get(name, "–")) for one in flat] for name in names}
    return {name: values for name, values in told.items() if len(set(values)) > 1}


def _flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{above}{name}.") if isinstance(value, Mapping) and value else {f"{above}{name}": value}
    return flat


def _statistics(comparison: Comparison, groups: Sequence[Group]) -> dict[str, Any]:
    """Return the tables that belong to the comparison's own metric."""
    configurations = [
        {
            "group": groups.index(group),
            "mean": one.mean,
            "low": one.low,
            "high": one.high,
            "runs": [run.name for run in one.runs],
        }
        for one in comparison.configurations
        if (group := _group(one.choices)) in groups
    ]
    return {
        "configurations": sorted(configurations, key=lambda one: one["group"]),
        "importance": [_numbers(one) for one in comparison.importance],
        "differences": [_numbers(one) for one in comparison.differences],
    }


def _numbers(row: Importance | Difference) -> dict[str, Any]:
    """Return a row of a table; what is not a number is not known, and has no place in JSON."""
    return {name: None if value != value else value for name, value in asdict(row).items()}
