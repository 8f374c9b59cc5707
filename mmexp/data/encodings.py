"""The encoding of a text file: UTF-8, or UTF-16 as spreadsheets write it."""

import codecs
from pathlib import Path

from mmexp.data.faults import Faults

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HEAD = 1000  # bytes


def encoding_of(file: Path, faults: Faults) -> str:
    """Return UTF-8 (with or without its mark), or UTF-16 or UTF-32, which is noted."""
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
    found = next((name for mark, name in _MARKS if head.startswith(mark)), None) or _without_mark(head)
    if found:
        faults.notes.append(f"{file}: read as {found.upper()}")
    return found or "utf-8-sig"


def _without_mark(head: bytes) -> str | None:
    """Return UTF-16 where every other byte is mostly zero, as of Latin letters."""
    if head[1::2].count(0) * 2 > len(head[1::2]) > 1:
        return "utf-16-le"
    if head[::2].count(0) * 2 > len(head[::2]) > 1:
        return "utf-16-be"
    return None
