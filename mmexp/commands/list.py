"""`mmexp list`: the parts there are, with one line each."""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

from mmexp.config import GROUPS
from mmexp.errors import RequestError, nearest

LISTED = (*GROUPS, "experiment", "chain")


def main(arguments: Sequence[str]) -> int:
    """Print all groups, or the one asked for."""
    asked = arguments[0] if arguments else None
    if asked and asked.partition("/")[0] not in LISTED:
        raise RequestError(f"'{asked}' is not a group.{nearest(asked, LISTED)}")
    root: Any = files("mmexp.conf")
    for group in LISTED:
        parts = [(n, line) for n, line in _parts(root / group, group) if not asked or n.startswith(asked)]
        if parts:
            print(group)
            for name, line in parts:
                print(f"  {name:<34}{line}")
    return 0


def _parts(folder: Any, group: str) -> Iterator[tuple[str, str]]:
    """Yield `group=choice` and the first comment of its file, sub-groups after their group."""
    if not folder.is_dir():
        return
    entries = sorted(folder.iterdir(), key=lambda entry: (entry.is_dir(), entry.name))
    for entry in entries:
        if entry.is_dir():
            yield from _parts(entry, f"{group}/{entry.name}")
        elif entry.name.endswith(".yaml"):
            # A chain is no choice of a run, but a command of its own.
            mark = " " if group == "chain" else "="
            yield f"{group}{mark}{entry.name.removesuffix('.yaml')}", first_comment(entry.read_text())


def first_comment(text: str) -> str:
    """Return the line by which a file of the configuration says what it is."""
    lines = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#") and "@package" not in line]
    return lines[0] if lines else ""
