"""A user's own data: a table of pictures and captions, in whatever form it is kept."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal

import numpy as np

from mmexp.data.checking import faulty_rows
from mmexp.data.concepts import concepts_of, hold_out
from mmexp.data.pictures import Slice, complaint, read_picture, stored_in
from mmexp.data.readers import Table, read_table
from mmexp.errors import RequestError, nearest
from mmexp.types import DataSource, Fraction

KINDS = ("image", "text", "audio", "label", "concept")


class TableSamples:
    """Rows of a table, `rows (N,)` of them."""

    def __init__(self, table: Table, columns: Mapping[str, str], rows: np.ndarray):
        self.table, self.columns, self.rows = table, columns, rows
        self.concepts = np.zeros(len(rows), dtype=np.int64)
        self.labels = np.full(len(rows), -1, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def cell(self, row: int, kind: str) -> Any:
        """Return what the table holds."""
        return self.table.columns[self.columns[kind]][int(self.rows[row])]

    def read(self, row: int, modality: str, rng: np.random.Generator | None = None) -> Any:
        """Return the picture in RGB, or the caption; of several captions `rng` draws one, without it they are joined.

        Raises RequestError where a picture cannot be decoded.
        """
        value = self.cell(row, modality)
        if modality == "text":
            return text_of(value[rng.integers(len(value))] if rng and isinstance(value, list) else value)
        try:
            return read_picture(stored_in(value, self.table.base))
        except OSError as error:
            raise RequestError(f"{self.where(row)}: {complaint(error)}") from error

    def texts(self, row: int) -> list[str]:
        """Return the row's captions, one or several."""
        value = self.cell(row, "text")
        return [text_of(one) for one in (value if isinstance(value, list) else [value])]

    def where(self, row: int) -> str:
        """Return file and line."""
        return self.table.places[int(self.rows[row])]

    def chosen(self, rows: Sequence[int] | np.ndarray) -> "TableSamples":
        """Return some of these rows."""
        part = TableSamples(self.table, self.columns, self.rows[rows])
        part.concepts, part.labels = self.concepts[rows], self.labels[rows]
        return part


def text_of(value: Any) -> str:
    """Return a caption; several of one picture are joined."""
    if isinstance(value, Slice):
        value = value.read_bytes().decode()
    return ". ".join(map(str, value)) if isinstance(value, list) else str(value)


def table(
    train: str,
    columns: dict[str, str | None],
    val: str | None = None,
    test: str | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    val_fraction: Fraction = 0.1,
) -> DataSource:
    """Return the splits at the paths `train`, `val` and `test`; without `val` a share of the training concepts is held out.

    `columns` maps image, text, label and concept to a column, or to None. Rows are of one concept where the concept column
    says so, without one where they share picture or caption. Raises RequestError for paths, columns and rows that are wrong.
    """
    paths = {name: path for name, path in (("train", train), ("val", val), ("test", test)) if path}
    chosen = _chosen(columns)
    tables = {name: read_table(path) for name, path in paths.items()}
    splits, skipped = {}, {}
    for name, one in tables.items():
        _check_columns(one, chosen)
        faulty = faulty_rows(one, chosen)
        if faulty and on_error == "raise":
            raise RequestError(_first(faulty))
        rows = np.setdiff1d(np.arange(len(one)), list(faulty))
        if not len(rows):
            raise RequestError(f"'{paths[name]}' has no row that can be read. {_first(faulty)}")
        splits[name] = TableSamples(one, chosen, rows)
        if faulty:
            skipped[name] = len(faulty)
            print(f"{paths[name]}: {len(faulty)} of {len(one)} rows left out. First: {faulty[min(faulty)]}")
    _number_concepts(splits)
    classes = _number_labels(splits)
    if "val" not in splits and val_fraction:
        splits |= _with_validation(splits["train"], val_fraction)
    modalities = [kind for kind in ("image", "text") if kind in chosen]
    return DataSource(splits, modalities, classes, _fingerprint(tables, chosen), skipped)


def _chosen(columns: Mapping[str, str | None]) -> dict[str, str]:
    for kind in columns:
        if kind not in KINDS:
            raise RequestError(f"'data.columns.{kind}' is not a key.{nearest(kind, KINDS)}")
    chosen = {kind: column for kind, column in columns.items() if column is not None}
    if "audio" in chosen:
        raise RequestError("data.columns.audio: there is no encoder for sounds yet. Leave it null.")
    if not {"image", "text"} & set(chosen):
        raise RequestError("data.columns: neither image nor text is there. Set data.columns.image=COLUMN.")
    return chosen


def _check_columns(one: Table, chosen: Mapping[str, str]) -> None:
    for kind, column in chosen.items():
        if column not in one.columns:
            raise RequestError(
                f"'{one.name}' has no column '{column}' (data.columns.{kind}).{nearest(column, one.columns)} "
                f"Set data.columns.{kind}=COLUMN, or null to leave it out."
            )


def _first(faulty: Mapping[int, str]) -> str:
    more = f" {len(faulty) - 1} more rows are wrong." if len(faulty) > 1 else ""
    return f"{faulty[min(faulty)]}{more} data.on_error=skip leaves such rows out and counts them."


def _number_concepts(splits: Mapping[str, TableSamples]) -> None:
    """Give rows of all splits that show the same thing the same number."""
    kinds = [kind for kind in ("concept", "image", "text") if kind in splits["train"].columns]
    if kinds[0] == "concept":
        kinds = ["concept"]
    every = [
        [_key(samples.cell(row, kind)) for kind in kinds] for samples in splits.values() for row in range(len(samples))
    ]
    numbers = concepts_of(every)
    start = 0
    for samples in splits.values():
        samples.concepts = numbers[start : start + len(samples)]
        start += len(samples)


def _key(cell: Any) -> str | None:
    """Return what makes two cells the same; pictures kept as bytes are told apart without reading them."""
    if isinstance(cell, dict):
        cell = cell.get("path")
    return None if cell is None or isinstance(cell, bytes) else str(cell)


def _number_labels(splits: Mapping[str, TableSamples]) -> list[str]:
    """Number the labels by the classes of `train`; a row may have none. Raises RequestError for a label unknown there."""
    train = splits["train"]
    if "label" not in train.columns:
        return []
    names = {_label(train, row) for row in range(len(train))} - {""}
    classes = sorted(names, key=lambda name: (0, int(name), "") if name.lstrip("-").isdecimal() else (1, 0, name))
    number = {name: i for i, name in enumerate(classes)}
    for samples in splits.values():
        for row in range(len(samples)):
            name = _label(samples, row)
            if name and name not in number:
                raise RequestError(
                    f"{samples.where(row)}: no row of train has the label '{name}'.{nearest(name, classes)}"
                )
            samples.labels[row] = number.get(name, -1)
    return classes


def _label(samples: TableSamples, row: int) -> str:
    cell = samples.cell(row, "label")
    return "" if cell is None else str(cell)


def _with_validation(train: TableSamples, fraction: float) -> dict[str, TableSamples]:
    held = hold_out(train.concepts, fraction)
    return {"train": train.chosen(np.flatnonzero(~held)), "val": train.chosen(np.flatnonzero(held))}


def _fingerprint(tables: Mapping[str, Table], chosen: Mapping[str, str]) -> str:
    content = repr((sorted((name, one.digest) for name, one in tables.items()), sorted(chosen.items())))
    return sha256(content.encode()).hexdigest()[:16]
