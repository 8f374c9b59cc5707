"""WebDataset tars as tables: files that share a name up to its first dot are a row. Nothing is unpacked."""

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmexp.data.faults import Faults
from mmexp.data.kinds import FILES
from mmexp.data.stored import Slice
from mmexp.data.texts import captions_in
from mmexp.errors import RequestError

Columns = dict[str, list[Any]]
# Columns under which the files of a sample can be asked for besides their suffix.
_MEANS = {"txt": "caption", "cls": "label"}


@dataclass
class _Sample:
    """The files of one sample by their suffix: `cells` of them, and the `metadata` of its .json."""

    place: str
    again: bool = False
    suffixes: set[str] = field(default_factory=set)
    cells: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    broken: bool = False

    def row(self) -> dict[str, Any]:
        """Return the sample as a row, in which a file stands before a key of the .json that has the same name."""
        return {**self.metadata, **self.cells}


def read_archives(shards: Sequence[Path], faults: Faults, each_line: bool = False) -> tuple[Columns, list[str]]:
    """Return the columns of all samples in tars, and where each stands; with `each_line` a line of a .txt is a caption.

    A key that comes again begins another sample. Hidden files (`._1.png` of macOS) are left out, which is noted.
    Raises RequestError for what is no tar, or a missing one.
    """
    samples = [one for shard in shards for one in _samples(shard, faults, each_line)]
    rows = [one.row() for one in samples]
    _note(samples, faults)
    names = list(dict.fromkeys(column for row in rows for column in row))
    return {column: [row.get(column) for row in rows] for column in names}, [one.place for one in samples]


def _samples(shard: Path, faults: Faults, each_line: bool) -> list[_Sample]:
    samples: list[_Sample] = []
    latest: dict[str, _Sample] = {}
    times: dict[str, int] = {}
    for member in _members(shard, faults):
        folder, _, name = member.name.rpartition("/")
        key, _, suffix = name.partition(".")
        key = f"{folder}/{key}".lstrip("/")
        suffix = suffix.lower()
        # A suffix that a sample has already begins the next one of the same key, as in the library webdataset.
        if key not in latest or suffix in latest[key].suffixes:
            times[key] = times.get(key, 0) + 1
            again = times[key] > 1
            place = f"{shard}, sample {key}" + (f" (number {times[key]} of this key)" if again else "")
            latest[key] = _Sample(place, again)
            samples.append(latest[key])
        _add(latest[key], suffix, Slice(shard, member.offset_data, member.size), faults, each_line)
    return [one for one in samples if not one.broken]


def _add(sample: _Sample, suffix: str, part: Slice, faults: Faults, each_line: bool) -> None:
    sample.suffixes.add(suffix)
    try:
        if suffix == "json":
            sample.metadata = _object(part)
        else:
            sample.cells |= _cells(suffix, part, each_line)
    except ValueError as error:
        faults(sample.place, f"its .{suffix} cannot be read: {error}.")
        sample.broken = True


def _members(shard: Path, faults: Faults) -> Iterator[tarfile.TarInfo]:
    """Yield the files of a tar, whole ones alone; links, devices and hidden files are none."""
    hidden = 0
    try:
        size = shard.stat().st_size
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if member.isfile() and member.offset_data + member.size > size:
                    faults(f"{shard}", f"it is cut off in {member.name}: download or write it again.")
                elif member.isfile() and _is_hidden(member.name):
                    hidden += 1
                elif member.isfile():
                    yield member
    except FileNotFoundError as error:
        raise RequestError(f"there is no file '{shard}'.") from error
    except (tarfile.TarError, ValueError, OSError, EOFError) as error:
        text = f"it cannot be read as an uncompressed tar: {error}."
        faults(f"'{shard}'", text)
    if hidden:
        faults.notes.append(f"{shard}: {hidden} hidden files (such as ._NAME of macOS) left out")


def _is_hidden(name: str) -> bool:
    parts = [part for part in name.split("/") if part not in (".", "..")]
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts)


def _object(part: Slice) -> dict[str, Any]:
    """Return the keys of a sample's .json. Raises ValueError where it is no object."""
    found = json.loads(part.read_bytes())
    if not isinstance(found, dict):
        raise ValueError("a row is an object")
    return found


def _cells(suffix: str, part: Slice, each_line: bool) -> Mapping[str, Any]:
    """Return what one file of a sample adds to its row. Raises ValueError where it is not what its name says."""
    for kind, suffixes in FILES.items():
        if f".{suffix}" in suffixes:
            return {kind: part, suffix: part}
    if suffix in _MEANS:
        text = part.read_bytes().decode()
        cell = captions_in(text, each_line and suffix == "txt")
        return {suffix: cell, _MEANS[suffix]: cell}
    return {suffix: part}


def _note(samples: Sequence[_Sample], faults: Faults) -> None:
    if again := [one for one in samples if one.again]:
        faults.notes.append(f"{again[0].place}: the key comes again, as a row of its own; so do {len(again) - 1} more")
    both = [one for one in samples if one.metadata.keys() & one.cells.keys()]
    if both:
        names = ", ".join(sorted({name for one in both for name in one.metadata.keys() & one.cells.keys()}))
        faults.notes.append(
            f"{both[0].place}: its files are read, not the keys of the same name in its .json ({names})"
        )
