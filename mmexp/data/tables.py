"""A table in memory: columns of cells, and where each row stands."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmexp.data.contents import content_digest
from mmexp.data.faults import Faults
from mmexp.errors import RequestError


@dataclass(frozen=True)
class Table:
    """Columns of equal length. `base` is what paths in them are relative to, `places` says where each row stands.

    `faults` are the rows that were left out, `notes` lines on how the table was read where there was a choice.
    `class_folder`: it is a folder of files with one sub-folder a class.
    """

    name: str
    columns: Mapping[str, Sequence[Any]]
    base: Path
    places: Sequence[str]
    digest: str = field(default="", compare=False)
    faults: Sequence[str] = ()
    notes: Sequence[str] = ()
    class_folder: bool = False

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True)
class Reading:
    """How a table is read: what becomes of rows that cannot be, and whether a line of a .txt is a caption of its own."""

    faults: Faults
    each_line: bool = False


class Counted(Sequence[str]):
    """The places of rows that have a number and no line."""

    def __init__(self, name: str, rows: int):
        self.name, self.rows = name, rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: Any) -> Any:
        return f"{self.name}, row {row} (counted from 0)"


def table_of(file: Path, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Table:
    """Return rows (each with its place) as columns; a row may lack some."""
    every = list(rows)
    names = list(dict.fromkeys(name for _, row in every for name in row))
    columns = {name: [row.get(name) for _, row in every] for name in names}
    return Table(str(file), columns, file.parent, [place for place, _ in every], content_digest([file]))


def check_names(place: str, names: Sequence[str]) -> None:
    """Raise RequestError where two columns have the same name."""
    for name in names:
        if names.count(name) > 1:
            raise RequestError(f"{place}: {names.count(name)} columns are named '{name}'. Rename all but one.")
