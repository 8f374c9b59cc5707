"""`sweep.json` of a search: its runs so far, and what they have to know of it."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from mmexp.runs.parents import fingerprint
from mmexp.runs.record import write_atomically
from mmexp.sweeps.book import FILE
from mmexp.sweeps.search import Search
from mmexp.sweeps.space import Space


def write_search(
    directory: Path,
    command: str,
    asked: Search,
    planned: int,
    space: Space,
    compose: Callable[[Sequence[str]], dict[str, Any]],
    trials: Sequence[FrozenTrial],
) -> None:
    """Write `sweep.json` with every trial so far; `compose` returns the configuration of a run's overrides."""
    file = directory / FILE
    before: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"began": time.time(), "runs": []}
    known = {run["number"]: run for run in before["runs"]}
    told = {
        "name": asked.name,
        "command": command,
        "began": before["began"],
        "sweeper": "optuna",
        "planned": planned,
        "search": asked.told(),
        "runs": [known.get(trial.number) or _entry(trial, space, compose) for trial in trials],
    }
    write_atomically(file, json.dumps(told, indent=2) + "\n")


def _entry(trial: FrozenTrial, space: Space, compose: Callable[[Sequence[str]], dict[str, Any]]) -> dict[str, Any]:
    overrides = space.overrides(trial.params)
    return {"number": trial.number, "overrides": overrides, "fingerprint": fingerprint(compose(overrides))}
