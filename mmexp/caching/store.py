"""A folder of artefacts: each written once, by whoever comes first, and never seen before it is whole."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmexp.caching.entry import MANIFEST, Entry, EntryWriter
from mmexp.caching.rows import KeptRows, lay_out
from mmexp.errors import RequestError

# Artefacts whose checksums this process has compared already, and when they were written.
_verified: dict[Path, int] = {}


class Store:
    """Artefacts below `directory`, of `max_bytes` in all; those that were not used for the longest time make room."""

    def __init__(self, directory: Path, max_bytes: float):
        self.directory, self.max_bytes = directory, max_bytes

    def find(self, key: str) -> Entry | None:
        """Return the artefact, None where there is none; a damaged one is removed, and said to be."""
        folder = self.directory / key
        if not folder.is_dir():
            return None
        try:
            entry = Entry(folder)
            damage = None if _verified.get(folder) == _written(folder) else entry.damage()
        except (OSError, ValueError, KeyError, TypeError) as error:
            damage = f"{MANIFEST} cannot be read ({type(error).__name__})"
        if damage:
            print(f"cache: {folder} is damaged, {damage}: it is computed again")
            shutil.rmtree(folder, ignore_errors=True)
            return None
        os.utime(folder)  # used now
        _verified[folder] = _written(folder)
        return entry

    def obtain(
        self, key: str, about: Mapping[str, Any], dtype: torch.dtype, batches: Callable[[], Iterable[dict[str, Tensor]]]
    ) -> Entry:
        """Return the artefact; where there is none, write the `batches` of named tensors (B, ...), rows in order.

        Of several processes that want it at once one computes, the others wait. Raises RequestError where it cannot be written.
        """
        from filelock import FileLock

        if found := self.find(key):
            return found
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with FileLock(self.directory / f".{key}.lock"):
                return self.find(key) or self._write(key, about, dtype, batches())
        except OSError as error:
            why = error.strerror or error
            raise RequestError(
                f"cache.directory={self.directory}: cannot be written to ({why}). Set another one, or cache.enabled=false."
            ) from error

    def rows(self, key: str, about: Mapping[str, Any], name: str, rows: int, shape: Sequence[int]) -> KeptRows:
        """Return the `rows` of one uint8 tensor, laid out where there are none: whoever reads them fills them.

        Raises OSError where there is no room, and RequestError where they would take more than all that may be kept.
        """
        from filelock import FileLock

        self.directory.mkdir(parents=True, exist_ok=True)
        with FileLock(self.directory / f".{key}.lock"):
            if not (self.directory / key / MANIFEST).is_file():
                self.make_room(rows * int(torch.Size(shape).numel()), [])
                self._place(key, lambda folder: lay_out(folder, key, about, name, rows, shape))
        return KeptRows(self.directory / key)

    def _write(
        self, key: str, about: Mapping[str, Any], dtype: torch.dtype, batches: Iterable[dict[str, Tensor]]
    ) -> Entry:
        def fill(folder: Path) -> None:
            writer = EntryWriter(folder, dtype)
            for batch in batches:
                writer.add(batch)
            writer.close(key, about)

        final = self._place(key, fill)
        _verified[final] = _written(final)
        return Entry(final)

    def _place(self, key: str, fill: Callable[[Path], None]) -> Path:
        """Return the folder of a key, which `fill` wrote beside its place; its lock is ours."""
        for torn in self.directory.glob(f".{key}-*"):  # of a process that was killed
            shutil.rmtree(torn, ignore_errors=True)
        folder, final = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=self.directory)), self.directory / key
        try:
            fill(folder)
            folder.rename(final)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return final

    def entries(self) -> list[Entry]:
        """Return every artefact that can be read, the last used first."""
        found = []
        for folder in self.directory.glob(f"*/{MANIFEST}"):
            try:
                found.append(Entry(folder.parent))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return sorted(found, key=last_used, reverse=True)

    def remove(self, key: str) -> None:
        """Remove an artefact. A process that reads it goes on reading."""
        shutil.rmtree(self.directory / key, ignore_errors=True)
        (self.directory / f".{key}.lock").unlink(missing_ok=True)

    def make_room(self, needed: float, kept: Iterable[str]) -> None:
        """Remove what was not used for the longest time until `needed` bytes fit; `kept` keys stay.

        Raises RequestError where they cannot fit.
        """
        kept = set(kept)
        others = [entry for entry in self.entries() if entry.key not in kept]
        used = sum(entry.size for entry in self.entries() if entry.key in kept)
        if used + needed > self.max_bytes:
            raise RequestError(
                f"cache.max_bytes={self.max_bytes:.0f}: this run's frozen outputs take {used + needed:.0f} bytes. "
                "Set it higher, choose fewer variation.views, or cache.enabled=false."
            )
        while others and used + needed + sum(entry.size for entry in others) > self.max_bytes:
            self.remove(others.pop().key)


def last_used(entry: Entry) -> float:
    """Return when an artefact was last used, in seconds since 1970."""
    return entry.folder.stat().st_mtime


def age(entry: Entry) -> str:
    """Return how long ago that was, in words."""
    hours = (time.time() - last_used(entry)) / 3600
    return (
        f"{hours * 60:.0f} min ago"
        if hours < 1
        else f"{hours:.0f} h ago"
        if hours < 48
        else f"{hours / 24:.0f} days ago"
    )


def _written(folder: Path) -> int:
    return (folder / MANIFEST).stat().st_mtime_ns
