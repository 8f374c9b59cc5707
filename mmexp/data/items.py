"""Item identity: which rows hold the same text, picture, sound or video, judged by content."""

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from mmexp.data.stored import Slice, Stored

MISSING = -1
_HEAD_BYTES = 4096


def text_item(text: str) -> int:
    """Return the item number of a text: 63 bits of its BLAKE2b hash, so that all splits and tables number it alike."""
    return _number(text.encode("utf-8", "surrogatepass"))


def bytes_item(content: bytes) -> int:
    """Return the item number of a file that is held in memory, from 0 to 2^63 - 1."""
    return _number(content)


def _number(content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "big") >> 1


def stored_items(stored: Sequence[Stored | None]) -> np.ndarray:
    """Number files by content.

    Two files are one item where they are the same file on disk (links included) or hold the same bytes. Contents are only
    read where sizes are equal: first the leading 4 KiB, then the whole of those that agree so far.

    Args:
        stored: where each row's file is; None where the row has none.

    Returns:
        Item numbers (N,) int64 in the order of first appearance, -1 where there is no file.

    Raises:
        OSError: a file cannot be read.
    """
    keys: list[Hashable] = [None if one is None else _source(one) for one in stored]
    first: dict[Hashable, Stored] = {}
    for key, one in zip(keys, stored, strict=True):
        if one is not None:
            first.setdefault(key, one)
    same = dict.fromkeys(first, b"")
    for content in (_size, _head, _digest):
        same = _refined(same, first, content)
    canonical: dict[bytes, int] = {}
    number = {key: canonical.setdefault(same[key], len(canonical)) for key in first}
    return np.array([MISSING if key is None else number[key] for key in keys], dtype=np.int64)


def _refined(
    same: Mapping[Hashable, bytes], files: Mapping[Hashable, Stored], content: Callable[[Stored], bytes]
) -> dict[Hashable, bytes]:
    """Return what is known of each file with `content` added where other files agree in what was known before."""
    groups: defaultdict[bytes, list[Hashable]] = defaultdict(list)
    for key, known in same.items():
        groups[known].append(key)
    return {key: known + content(files[key]) if len(groups[known]) > 1 else known for key, known in same.items()}


def _source(stored: Stored) -> Hashable:
    """Return what tells that two cells name the same file, without reading it."""
    if isinstance(stored, bytes):
        return blake2b(stored, digest_size=16).digest()
    if isinstance(stored, Slice):
        return stored
    about = stored.stat()
    # Some network file systems number no files.
    return (about.st_dev, about.st_ino) if about.st_ino else os.path.realpath(stored)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if not file.name.startswith("."))


def _size(stored: Stored) -> bytes:
    if isinstance(stored, bytes):
        size = len(stored)
    elif isinstance(stored, Slice):
        size = stored.size
    elif stored.is_dir():
        size = sum(file.stat().st_size for file in _files(stored))
    else:
        size = stored.stat().st_size
    return b"size %d;" % size


def _head(stored: Stored) -> bytes:
    return _hashed([_leading(stored)])


def _leading(stored: Stored) -> bytes:
    if isinstance(stored, bytes):
        return stored[:_HEAD_BYTES]
    if isinstance(stored, Slice):
        return Slice(stored.file, stored.offset, min(stored.size, _HEAD_BYTES)).read_bytes()
    if stored.is_dir():
        return b"".join(map(_leading, _files(stored)[:1]))
    with stored.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _digest(stored: Stored) -> bytes:
    if isinstance(stored, bytes):
        return _hashed([stored])
    if isinstance(stored, Path) and stored.is_dir():
        return _hashed(file.read_bytes() for file in _files(stored))
    return _hashed([stored.read_bytes()])


def _hashed(contents: Iterable[bytes]) -> bytes:
    digest = blake2b(digest_size=16)
    for content in contents:
        digest.update(blake2b(content, digest_size=16).digest())
    return digest.digest()
