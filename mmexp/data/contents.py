"""A digest of what files hold, remembered for as long as they stay as they are."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import file_digest, sha256
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of results that outlive a run: MMEXP_CACHE, else mmexp in the user's cache folder."""
    own = os.environ.get("MMEXP_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mmexp"


def files_below(path: Path) -> list[Path]:
    """Return the file itself, or the files of a folder in the order of their names."""
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]


def state_of(path: Path) -> str:
    """Return size, time of modification, inode and time of change of a file, of a folder those of all its files.

    A file that is rewritten at its old size, even with its old time of modification put back, has another state.
    """
    states = map(Path.stat, files_below(path))
    return " ".join(f"{s.st_size} {s.st_mtime_ns} {s.st_ino} {s.st_ctime_ns}" for s in states)


def content_digest(paths: Iterable[Path]) -> str:
    """Return 64 hexadecimal digits of the bytes of files, and of those in folders, in this order, wherever they lie.

    All bytes are read once (SHA-256, by all cores). The digest is then remembered below `cache_folder()` under the states of
    all files, so that later calls read only their metadata. Raises OSError for a file that is missing.
    """
    files = [file for path in paths for file in files_below(path)]
    states = "\n".join(f"{os.path.abspath(file)} {state_of(file)}" for file in files)
    memory = cache_folder() / "contents" / sha256(states.encode("utf-8", "surrogateescape")).hexdigest()
    with suppress(OSError):
        return memory.read_text()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = sha256("".join(pool.map(_digest, files)).encode()).hexdigest()
    remember(memory, found)
    return found


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def remember(memory: Path, text: str) -> None:
    """Write a small file, whole or not at all; where nothing can be written, the next run computes it again."""
    temporary = memory.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text)
        os.replace(temporary, memory)
