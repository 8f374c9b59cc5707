"""From cells to what is learned: one label, several labels, a number."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from mmexp.errors import RequestError, nearest


class Labelled(Protocol):
    """Rows whose cells say what is right."""

    labels: np.ndarray
    targets: np.ndarray | None
    number: np.ndarray | None

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def cell(self, row: int, kind: str) -> Any:
        """Return what the table holds."""
        ...

    def where(self, row: int) -> str:
        """Return file and line."""
        ...


def number_labels(
    train: Labelled, splits: Sequence[Labelled], separator: str | None, all_labels: bool = False
) -> list[str]:
    """Number the labels by the classes of `train`, or of all splits where `all_labels`; return the classes. A row may have none.

    With a `separator`, or where one of these cells is a list, a row has `targets (C,)`: 1 for each of its labels, else 0; NaN
    where the cell is empty (an empty list says that it has none). Lists of 0 and 1, all of one length, are multi-hot: the
    classes are the positions, and where each list has a single 1, a row has one label. Names are stripped of spaces; null, NaN
    and blank cells are empty. Raises RequestError for a label unknown in train.
    """
    named = splits if all_labels else [train]
    cells = [own.cell(row, "label") for own in named for row in range(len(own))]
    hot = _are_multi_hot(cells)
    several = separator is not None or any(isinstance(cell, list) and (not hot or sum(cell) != 1) for cell in cells)
    names = partial(_names, separator=separator, hot=hot)
    classes = _in_order({name for cell in cells for name in names(cell) or ()})
    number = {name: i for i, name in enumerate(classes)}
    for samples in splits:
        found = [_numbers(samples, row, names(samples.cell(row, "label")), number) for row in range(len(samples))]
        if several:
            samples.targets = _targets(found, len(classes))
        else:
            samples.labels = np.array([own[0] if own else -1 for own in found], dtype=np.int64)
    return classes


def _are_multi_hot(cells: Sequence[Any]) -> bool:
    """Say whether all lists hold numbers 0 and 1 alone and are of one length of at least 2."""
    lists = [cell for cell in cells if isinstance(cell, list)]
    numbers = all(isinstance(one, int | float) and one in (0, 1) for own in lists for one in own)
    return bool(lists) and numbers and len({len(own) for own in lists}) == 1 and len(lists[0]) > 1


def _names(cell: Any, separator: str | None, hot: bool) -> list[str] | None:
    """Return the labels in a cell, None where it is empty."""
    if isinstance(cell, list):
        if hot:
            return [str(place) for place, one in enumerate(cell) if one]
        return [name for name in map(_name, cell) if name is not None]
    name = _name(cell)
    if name is None or separator is None:
        return None if name is None else [name]
    return [part.strip() for part in name.split(separator) if part.strip()]


def _name(cell: Any) -> str | None:
    """Return a label as text, None for null, NaN and blank cells. Whole numbers that are stored as floats have no decimals."""
    if cell is None or cell != cell:
        return None
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip() or None


def _in_order(names: set[str]) -> list[str]:
    return sorted(names, key=lambda name: (0, int(name), "") if name.lstrip("-").isdecimal() else (1, 0, name))


def _numbers(samples: Labelled, row: int, names: list[str] | None, number: dict[str, int]) -> list[int] | None:
    for name in names or ():
        if name not in number:
            raise RequestError(f"{samples.where(row)}: no row of train has the label '{name}'.{nearest(name, number)}")
    return None if names is None else [number[name] for name in names]


def _targets(found: Sequence[list[int] | None], classes: int) -> np.ndarray:
    targets = np.zeros((len(found), classes), dtype=np.float32)
    for row, own in enumerate(found):
        targets[row, slice(None) if own is None else own] = np.nan if own is None else 1
    return targets


def read_numbers(samples: Labelled) -> np.ndarray:
    """Return (N,) float32 of the column `target`, NaN where a cell is empty. Raises RequestError for what is no number."""
    return np.array([_number(samples.cell(row, "target"), samples, row) for row in range(len(samples))], np.float32)


def _number(cell: Any, samples: Labelled, row: int) -> float:
    if cell is None or cell != cell or (isinstance(cell, str) and not cell.strip()):
        return np.nan
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = np.inf
    if np.isinf(value):
        raise RequestError(f"{samples.where(row)}: the target '{cell}' is not a number.")
    return value
