"""Who works in a run directory: a lock that the system frees when its holder dies, whatever killed it."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mmexp.errors import RequestError

FILE = ".lock"
# What this process holds itself: to the system its own locks are free, and looking at one would let go of it.
_own: set[Path] = set()


class Held(Exception):
    """Another living process, or this one, works in the directory."""


@contextmanager
def hold(directory: Path, patience: float = 1.0) -> Iterator[None]:
    """Hold `directory`, which is made where it is missing.

    Raises Held where it is not free within `patience` seconds, and RequestError where nothing can be written.

    The lock is a POSIX record lock and not `flock`: loader workers that outlive a killed run would inherit the latter.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        opened = (directory / FILE).open("a")
    except OSError as error:
        raise RequestError(f"hydra.run.dir={directory}: cannot be written to ({error.strerror}).") from error
    place = directory.resolve()
    with opened as stream:
        _take(place, stream, time.monotonic() + patience)
        _own.add(place)
        try:
            yield
        finally:
            _own.discard(place)


def held(directory: Path) -> bool:
    """Say whether a living process works in `directory`."""
    if directory.resolve() in _own:
        return True
    try:
        # To look is to share, for which a directory that one may only read is enough.
        with (directory / FILE).open() as stream:
            return not _free(stream, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def holding(directory: Path) -> bool:
    """Say whether this process itself works in a directory right below `directory`."""
    return any(place.parent == directory.resolve() for place in _own)


def _take(place: Path, stream: IO[str], until: float) -> None:
    # Somebody who only looks whether it is held has it for a moment.
    while place in _own or not _free(stream):
        if time.monotonic() > until:
            raise Held(f"{place} is being written by another process")
        time.sleep(0.05)


def _free(stream: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    """Take the lock where it is free; it is let go of when `stream` is closed."""
    try:
        fcntl.lockf(stream, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
