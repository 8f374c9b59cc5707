"""How far a sweep or a run is, from its files alone: `sweep.json`, `run.json`, `metrics.json`, `metrics.csv`."""

import csv
import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from pathlib import Path
from statistics import mean
from typing import Any

from mmexp.errors import RequestError, nearest
from mmexp.metrics import best_of, selected_by
from mmexp.runs.holding import held

_STATES = {"completed": "done", "running": "running", "interrupted": "interrupted"}


@dataclass(frozen=True)
class Watched:
    """One run: `state` is waiting, running, done, failed, died (without saying how) or interrupted.

    `step` of `total_steps` are taken, `share` (0 to 1) of the training is done, `seconds` passed since its beginning or until
    its end. None is not known.
    """

    name: str
    state: str
    overrides: Sequence[str] = ()
    step: int | None = None
    total_steps: int | None = None
    share: float | None = None
    seconds: float | None = None
    error: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


def found(name: str) -> Path:
    """Return the directory of a sweep or run by its path or its name below outputs/. Raises RequestError for none."""
    places = [Path(name), Path("outputs/sweeps", name), Path("outputs/runs", name)]
    for place in places:
        if place.is_dir() and any(any(place.glob(file)) for file in ("sweep.json", "run.json", "*/run.json")):
            return place
    known = [path.name for folder in places[1:] if folder.parent.is_dir() for path in folder.parent.iterdir()]
    raise RequestError(f"watch: there is no sweep or run '{name}' here or below outputs/.{nearest(name, known)}")


def watch(directory: Path, now: float) -> list[Watched]:
    """Return the runs of a sweep in the order of their numbers, or the one run, as they are at `now` (unix seconds)."""
    if (directory / "run.json").is_file():
        return [_run(directory, [], now)]
    sweep = _json(directory / "sweep.json")
    planned = {str(run["number"]): list(run["overrides"]) for run in sweep.get("runs", [])}
    begun = {record.parent.name for record in directory.glob("*/run.json")}
    names = sorted({*planned, *begun}, key=lambda name: (len(name), name))
    runs = [_run(directory / name, planned.get(name, []), now) for name in names]
    # A search knows how many runs there will be before it knows which.
    unknown = range(len(names), sweep.get("planned") or 0)
    return [*runs, *(Watched(str(number), "waiting") for number in unknown)]


def _run(directory: Path, overrides: list[str], now: float) -> Watched:
    record = _json(directory / "run.json")
    if not record:
        return Watched(directory.name, "waiting", overrides)
    state = _STATES.get(record["status"], "failed")
    if state == "running" and not held(directory):
        state = "died"
    step = record.get("steps", _last_step(directory / "metrics.csv"))
    began, seconds = record.get("began"), record.get("wall_seconds")
    if state == "running" and began:
        seconds = now - began
    return Watched(
        name=directory.name,
        state=state,
        overrides=overrides or record.get("overrides") or [],
        step=step,
        total_steps=record.get("total_steps"),
        share=1.0 if state == "done" else _share(record, step, seconds),
        seconds=seconds,
        error=record.get("error") or record.get("stopped"),
        metrics=_json(directory / "metrics.json"),
    )


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def _last_step(path: Path) -> int | None:
    """Return how many steps were taken when the last row of a history was written, None before the first."""
    if not path.is_file():
        return None
    with path.open() as stream:
        header = next(csv.reader(stream), [])
        last = deque(csv.reader(stream), maxlen=1)
    if not last or len(last[0]) != len(header):
        return None
    return int(last[0][header.index("step")]) + 1


def _share(record: Mapping[str, Any], step: int | None, seconds: float | None) -> float | None:
    total, limit = record.get("total_steps"), record.get("total_seconds")
    shares = [step / total] if step and total else []
    # What was spent on validations, too, passes for training here.
    shares += [seconds / limit] if seconds and limit else []
    return min(1.0, max(shares)) if shares else None


def seconds_left(runs: Sequence[Watched]) -> float | None:
    """Return about how long it takes until all have ended, with as many at once as run now; None where nothing tells.

    A running one is estimated by its own share, one that waits by those that are done, or else by those that run.
    """
    going = [run for run in runs if run.state == "running"]
    waiting = sum(run.state == "waiting" for run in runs)
    ended = [run.seconds for run in runs if run.state == "done" and run.seconds]
    whole = {run.name: run.seconds / run.share for run in going if run.seconds and run.share}
    typical = mean(ended or whole.values()) if ended or whole else None
    if typical is None or not (going or waiting):
        return None
    rest = [max(0.0, whole.get(run.name, typical) - (run.seconds or 0.0)) for run in going]
    return max([(sum(rest) + waiting * typical) / max(1, len(going)), *rest])


@dataclass(frozen=True)
class Best:
    """The best of some runs: `run` has the best value of `selected`, a metric of `val` where there is one.

    `reported` is the same metric of a test set.
    """

    reported: str
    selected: str
    run: Watched


def best(runs: Sequence[Watched]) -> Best | None:
    """Return the best of the runs that have ended, chosen on `val`; None where nothing was measured that has a best value."""
    from mmexp.runs.sweep_table import main_metrics

    measured = [run for run in runs if run.metrics]
    names = main_metrics([dict(run.metrics) for run in measured], most=1) if measured else []
    if not names:
        return None
    reported, selected = names[0], selected_by(names[0], [run.metrics for run in measured])
    finite = {run.name: run for run in measured if isfinite(run.metrics.get(selected, nan))}
    top = best_of([run.metrics[selected] for run in finite.values()], selected)
    found = [run for run in finite.values() if run.metrics[selected] == top]
    return Best(reported, selected, found[0]) if found else None
