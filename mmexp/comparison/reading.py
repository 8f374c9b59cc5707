"""Run directories as a comparison reads them."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from mmexp.comparison.choices import choices_of
from mmexp.comparison.types import Run
from mmexp.errors import RequestError
from mmexp.runs.choices import overridden
from mmexp.runs.lineage import directories

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(paths: Sequence[Path]) -> list[Run]:
    """Return every run at or below `paths`, those of sweeps that still wait among them, with the choices that differ.

    Raises RequestError for a path that is not there or holds no run.
    """
    found = {directory: _facts(directory) for path in paths for directory in _numbered(path)}
    for path in paths:
        found |= {directory: facts for directory, facts in _waiting(path).items() if directory not in found}
    return with_choices([_run(directory, facts) for directory, facts in found.items()])


def with_choices(runs: Sequence[Run]) -> list[Run]:
    """Return `runs` with what they differ in, under names that are short and unique among them."""
    choices, names = choices_of(runs), _names(runs)
    return [replace(run, choices=c, name=n) for run, c, n in zip(runs, choices, names, strict=True)]


def _numbered(path: Path) -> list[Path]:
    """Return the run directories below a path, those of a sweep in the order of their numbers."""
    return sorted(directories(path), key=lambda d: (str(d.parent), len(d.name) if d.name.isdigit() else 0, d.name))


def _facts(directory: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((directory / "run.json").read_text())
    except json.JSONDecodeError as error:
        raise RequestError(
            f"{directory / 'run.json'} is no JSON: {error}. Leave this run out, or run it anew."
        ) from error
    return {"seed": _seed(facts), **facts}


def _seed(facts: dict[str, Any]) -> int:
    """Return the seed that the overrides of a run ask for: one that was refused or waits has no other record of it."""
    told = overridden(facts).get("seed", "0")
    return int(told) if told.isdigit() else 0


def _waiting(path: Path) -> dict[Path, dict[str, Any]]:
    """Return the runs that the sweeps below a path have planned and not begun."""
    found = {}
    for file in sorted(path.rglob("sweep.json")):
        for planned in json.loads(file.read_text())["runs"]:
            facts = {"status": "waiting", **planned}
            found[Path(os.path.abspath(file)).parent / str(planned["number"])] = {"seed": _seed(facts), **facts}
    return found


def _run(directory: Path, facts: dict[str, Any]) -> Run:
    config, metrics = directory / "config.yaml", directory / "metrics.json"
    return Run(
        name=directory.name,
        directory=directory,
        facts=facts,
        metrics=json.loads(metrics.read_text()) if metrics.is_file() else {},
        config=(yaml.load(config.read_text(), _Loader) or {}) if config.is_file() else {},
    )


def _names(runs: Sequence[Run]) -> list[str]:
    """Return the directories as seen from the one that all have in common."""
    places = [run.directory for run in runs if run.directory]
    common = os.path.commonpath([place.parent for place in places]) if places else ""
    return [os.path.relpath(run.directory, common) if run.directory else run.name for run in runs]
