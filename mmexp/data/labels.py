"""From cells to what is learned: one label, several labels, a number."""

from collections.abc import Iterable, Sequence
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


def number_labels(train: Labelled, splits: Iterable[Labelled], separator: str | None) -> list[str]:
    """Number the labels by the classes of `train`, which are returned; a row may have none.

    With a `separator`, or where a cell of train is a list, a row has `targets (C,)`: 1 for each of its labels, else 0; NaN
    where the cell is empty (an empty list says that it has none). Raises RequestError for a label unknown in train.
    """
    cells = [train.cell(row, "label") for row in range(len(train))]
    several = separator is not None or any(isinstance(cell, list) for cell in cells)
    classes = _in_order({name for cell in cells for name in _names(cell, separator) or ()})
    number = {name: i for i, name in enumerate(classes)}
    for samples in splits:
        found = [_numbers(samples, row, separator, number) for row in range(len(samples))]
        if several:
            samples.targets = _targets(found, len(classes))
        else:
            samples.labels = np.array([own[0] if own else -1 for own in found], dtype=np.int64)
    return classes


def _names(cell: Any, separator: str | None) -> list[str] | None:
    """Return the labels in a cell, None where it is empty."""
    if isinstance(cell, list):
        return [str(name) for name in cell]
    if cell is None or cell == "":
        return None
    return [name.strip() for name in str(cell).split(separator) if name.strip()] if separator else [str(cell)]


def _in_order(names: set[str]) -> list[str]:
    return sorted(names, key=lambda name: (0, int(name), "") if name.lstrip("-").isdecimal() else (1, 0, name))


def _numbers(samples: Labelled, row: int, separator: str | None, number: dict[str, int]) -> list[int] | None:
    names = _names(samples.cell(row, "label"), separator)
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
    if cell is None or cell == "":
        return np.nan
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = np.inf
    if np.isinf(value):
        raise RequestError(f"{samples.where(row)}: the target '{cell}' is not a number.")
    return value
