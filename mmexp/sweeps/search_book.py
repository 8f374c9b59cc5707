"""`sweep.json` of a search: its runs so far, and what they have to know of it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from mmexp.runs.parents import fingerprint
from mmexp.sweeps.book import Entry, entries_of, write
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
    known = {entry.number: entry for entry in entries_of(directory)}
    entries = [known.get(trial.number) or _entry(trial, space, compose) for trial in trials]
    write(directory, command, "optuna", planned, entries, search=asked.told())


def _entry(trial: FrozenTrial, space: Space, compose: Callable[[Sequence[str]], dict[str, Any]]) -> Entry:
    overrides = space.overrides(trial.params)
    return Entry(trial.number, tuple(overrides), fingerprint(compose(overrides)))
