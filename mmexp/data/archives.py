"""WebDataset tars as tables: files that share a name up to its first dot are a row. Nothing is unpacked."""

import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmexp.data.faults import Faults
from mmexp.data.kinds import FILES
from mmexp.data.stored import Slice
from mmexp.errors import RequestError

Columns = dict[str, list[Any]]


def read_archives(shards: Sequence[Path], faults: Faults) -> tuple[Columns, list[str], str]:
    """Return columns, where each row stands, and a digest. Raises RequestError for what is no tar, or a missing one."""
    rows = [row for shard in shards for row in _samples(shard, faults)]
    names = list(dict.fromkeys(column for _, row in rows for column in row))
    columns = {column: [row.get(column) for _, row in rows] for column in names}
    sizes = repr([(shard.name, shard.stat().st_size) for shard in shards])
    return columns, [place for place, _ in rows], hashlib.sha256(sizes.encode()).hexdigest()


def _samples(shard: Path, faults: Faults) -> list[tuple[str, dict[str, Any]]]:
    samples: dict[str, dict[str, Any]] = {}
    broken: set[str] = set()
    for member in _members(shard, faults):
        folder, _, name = member.name.rpartition("/")
        key, _, suffix = name.partition(".")
        key = f"{folder}/{key}".lstrip("/")
        part = Slice(shard, member.offset_data, member.size)
        try:
            samples.setdefault(key, {}).update(_part(suffix.lower(), part))
        except ValueError as error:
            faults(f"{shard}, sample {key}", f"its .{suffix} cannot be read: {error}.")
            broken.add(key)
    return [(f"{shard}, sample {key}", sample) for key, sample in samples.items() if key not in broken]


def _members(shard: Path, faults: Faults) -> Iterator[tarfile.TarInfo]:
    """Yield the files of a tar, whole ones alone; links and devices are none."""
    try:
        size = shard.stat().st_size
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if member.isfile() and member.offset_data + member.size > size:
                    faults(f"{shard}", f"it is cut off in {member.name}: download or write it again.")
                elif member.isfile():
                    yield member
    except FileNotFoundError as error:
        raise RequestError(f"there is no file '{shard}'.") from error
    except (tarfile.TarError, ValueError, OSError, EOFError) as error:
        text = f"it cannot be read as an uncompressed tar: {error}."
        faults(f"'{shard}'", text)


def _part(suffix: str, part: Slice) -> dict[str, Any]:
    """Return what one file of a sample adds to its row. Raises ValueError where it is not what its name says."""
    for kind, suffixes in FILES.items():
        if f".{suffix}" in suffixes:
            return {kind: part, suffix: part}
    if suffix == "json":
        row = json.loads(part.read_bytes())
        if not isinstance(row, dict):
            raise ValueError("a row is an object")
        return row
    if suffix in ("txt", "cls"):
        text = part.read_bytes().decode().strip()
        return {suffix: text, "caption" if suffix == "txt" else "label": text}
    return {suffix: part}
