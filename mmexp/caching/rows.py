"""Rows of one uint8 tensor in a memory-mapped file that fills as they are asked for, shared by processes and runs."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from mmexp.caching.entry import MANIFEST, Array, Entry

_CHECKS = "checks.bin"
_THERE = 1 << 32  # so that no checksum of a row that is there is zero


class KeptRows:
    """The rows in `folder`. Each has its checksum beside it: one that was not written whole counts as not there.

    Raises OSError where the files cannot be opened for writing.
    """

    def __init__(self, folder: Path):
        entry = Entry(folder)
        ((self.name, array),) = entry.arrays.items()
        self.folder = folder
        os.utime(folder)  # used now
        values, checks = folder / array.file, folder / _CHECKS
        for file in (values, checks):
            file.open("r+b").close()
        self.values = torch.from_file(str(values), True, array.size, dtype=torch.uint8).view(entry.rows, *array.shape)
        self.checks = torch.from_file(str(checks), True, entry.rows, dtype=torch.int64)
        self._compared = torch.zeros(entry.rows, dtype=torch.bool)

    def __getstate__(self) -> Path:
        """Leave the memory maps behind: another process opens its own."""
        return self.folder

    def __setstate__(self, folder: Path) -> None:
        """Open them."""
        self.__init__(folder)  # type: ignore[misc]

    def missing(self, rows: Sequence[int]) -> list[int]:
        """Return which of `rows` are not there; each is compared with its checksum once in a process."""
        for row in (row for row in rows if not self._compared[row]):
            self._compared[row] = bool(self.checks[row] == _check(self.values[row]))
        return [row for row in rows if not self._compared[row]]

    def put(self, rows: Sequence[int], values: Mapping[str, Tensor]) -> None:
        """Write `rows`, whose values (B, ...) are named as the file is."""
        self.values[list(rows)] = values[self.name]
        self.checks[list(rows)] = torch.tensor([_check(one) for one in values[self.name]])
        self._compared[list(rows)] = True

    def take(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return `rows` (B, ...), which are there."""
        return {self.name: self.values[list(rows)]}


def _check(values: Tensor) -> int:
    return crc32(values.numpy()) | _THERE  # type: ignore[arg-type]


def lay_out(folder: Path, key: str, about: Mapping[str, Any], name: str, rows: int, shape: Sequence[int]) -> None:
    """Make the files of `rows` that are not there yet. Raises OSError where the disk has no room for all of them."""
    size = rows * int(torch.Size(shape).numel())
    for file, needed in ((f"{name}.bin", size), (_CHECKS, 8 * rows)):
        with (folder / file).open("wb") as stream:
            # A disk that is full is told here, and not by a signal when a page is written.
            os.posix_fallocate(stream.fileno(), 0, needed)
    array = Array(f"{name}.bin", "uint8", tuple(shape), False, size, "")
    manifest = {"key": key, "rows": rows, "about": dict(about), "arrays": {name: asdict(array)}}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2))
