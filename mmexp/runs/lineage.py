"""Which runs came from which: what `run.json` says of parents, joined to the runs that are there."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mmexp.errors import RequestError, nearest
from mmexp.runs.parents import checkpoints, digest, home


@dataclass
class Origin:
    """One parent of a run: its `role`, the `path` it had then, and its run, None where that is not among those found."""

    role: str
    path: str
    weights: str | None
    run: "Run | None" = None


@dataclass(eq=False)
class Run:
    """One run directory that was found: `name` is its path as a person would type it."""

    directory: Path
    record: dict[str, Any]
    metrics: dict[str, float]
    origins: list[Origin] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The path from here where the run lies below, else the whole path."""
        short = os.path.relpath(self.directory)
        return str(self.directory) if short.startswith("..") else short

    @cached_property
    def weights(self) -> set[str]:
        """The hashes of the run's checkpoints; none where they were removed."""
        return {str(digest(file)) for file in checkpoints(self.directory) if file.is_file()}


def family(paths: Sequence[Path]) -> list[Run]:
    """Return every run at or below `paths`, each linked to its parents. Raises RequestError for a path that is not there.

    A parent is a run of the recorded fingerprint that has the recorded weights, or no checkpoint any longer: the one at the
    recorded path, or one that was moved.
    """
    runs = {directory: _read(directory) for path in paths for directory in directories(path)}
    for run in runs.values():
        run.origins = [_origin(run, told, runs) for told in run.record.get("parents") or []]
    return list(runs.values())


def directories(path: Path) -> Iterator[Path]:
    """Yield every run directory at or below `path`. Raises RequestError where there is none."""
    if not path.is_dir():
        near = nearest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise RequestError(f"'{path}': no such directory.{near}")
    found = sorted(Path(os.path.abspath(record)).parent for record in path.rglob("run.json"))
    if not found:
        raise RequestError(f"'{path}' holds no run: there is no run.json in it or below.")
    yield from found


def _read(directory: Path) -> Run:
    metrics = directory / "metrics.json"
    return Run(
        directory,
        json.loads((directory / "run.json").read_text()),
        json.loads(metrics.read_text()) if metrics.is_file() else {},
    )


def _origin(run: Run, told: dict[str, Any] | str, runs: dict[Path, Run]) -> Origin:
    """Return the parent that a record tells of. Records once held paths alone, which cannot be followed for sure."""
    if isinstance(told, str):
        return Origin("init_from", told, None)
    found = _find(told, runs)
    # Only where checkpoints were removed may a run seem to be its own ancestor.
    return Origin(told["role"], told["path"], told["weights"], None if found and _descends(found, run) else found)


def _find(told: dict[str, Any], runs: dict[Path, Run]) -> Run | None:
    """Return the run that `told` means; what was trained anew in its place is another run."""
    alike = [
        run
        for run in runs.values()
        if told["fingerprint"] and run.record.get("fingerprint") == told["fingerprint"]
        if not run.weights or told["weights"] in run.weights
    ]
    there = runs.get(home(Path(told["path"])))
    return there if there in alike else next(iter(alike), None)


def _descends(run: Run, other: Run) -> bool:
    return run is other or any(origin.run and _descends(origin.run, other) for origin in run.origins)


def changes(run: Run, names: Sequence[str]) -> dict[str, float]:
    """Return by how much each metric differs from the first parent's, where both were measured on the same data.

    On other data the comparison is with what the loaded weights measured there before training.
    """
    other = next((origin.run for origin in run.origins if origin.run), None)
    before = {name: run.metrics.get(f"start/{name}") for name in names}
    if other and other.record.get("data_fingerprint") == run.record.get("data_fingerprint"):
        before = {name: other.metrics.get(name) for name in names}
    return {name: run.metrics[name] - was for name, was in before.items() if was is not None and name in run.metrics}
