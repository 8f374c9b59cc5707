"""`sweep.json`: which combination has which number."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmexp.errors import RequestError
from mmexp.runs.record import write_atomically

FILE = "sweep.json"


@dataclass(frozen=True)
class Entry:
    """One run of a sweep: its number, which is its directory, what it overrides, and the digest of its configuration."""

    number: int
    overrides: tuple[str, ...]
    fingerprint: str


def entries_of(directory: Path) -> list[Entry]:
    """Return the runs that a sweep knows, those of earlier requests among them."""
    file = directory / FILE
    if not file.is_file():
        return []
    runs = json.loads(file.read_text())["runs"]
    return [Entry(run["number"], tuple(run["overrides"]), run["fingerprint"]) for run in runs]


def refuse_other_kind(directory: Path, search: bool) -> None:
    """Raise RequestError where a sweep that is no search stands where a `search` is asked for, or the other way round.

    Their numbers mean different things, and the runs of one would be written over by those of the other.
    """
    file = directory / FILE
    there = {"search"} & json.loads(file.read_text()).keys() if file.is_file() else set()
    runs = any(path.name.isdigit() for path in directory.glob("*/"))
    if bool(there) != search and (runs or file.is_file()):
        stands, asked = ("a search", "a grid") if there else ("a grid", "a search")
        raise RequestError(
            f"sweep.name={directory.name}: {stands} of this name is there, and {asked} is asked for. Choose another name."
        )


def next_number(directory: Path, entries: Iterable[Entry]) -> int:
    """Return the first number that is free, in `sweep.json` and on disk: a run that stands there is never written over."""
    there = [int(path.name) for path in directory.glob("*/") if path.name.isdigit()]
    return max([*(entry.number for entry in entries), *there], default=-1) + 1


def write(
    directory: Path, command: str, sweeper: str, planned: int | None, entries: Sequence[Entry], **more: Any
) -> None:
    """Write `sweep.json`, before the first run and with each that is added; `planned` is None where a search does not know.

    `more` is what the runs of a search have to know of it.
    """
    told: dict[str, Any] = {
        "name": directory.name,
        "command": command,
        "began": time.time(),
        "sweeper": sweeper,
        "planned": planned,
        **more,
        "runs": [
            {"number": entry.number, "overrides": list(entry.overrides), "fingerprint": entry.fingerprint}
            for entry in sorted(entries, key=lambda entry: entry.number)
        ],
    }
    write_atomically(directory / FILE, json.dumps(told, indent=2) + "\n")
