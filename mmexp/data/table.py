"""A user's own data: a table of pictures, captions and sounds, in whatever form it is kept."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmexp.data.checking import faulty_rows
from mmexp.data.chosen import chosen_present
from mmexp.data.concepts import concepts_of, hold_out
from mmexp.data.few_labels import keep_labels
from mmexp.data.labels import number_labels, read_numbers
from mmexp.data.pictures import read_picture
from mmexp.data.readers import Table, read_table
from mmexp.data.sounds import read_sound
from mmexp.data.stored import Slice, complaint, is_empty, stored_in
from mmexp.errors import RequestError, nearest
from mmexp.types import DataSource, Fraction, PositiveFloat, PositiveInt

MODALITIES = ("image", "text", "audio")
KINDS = (*MODALITIES, "label", "target", "concept")


class TableSamples:
    """Rows of a table, `rows (N,)` of them; of each sound no more is read than its first `seconds`."""

    def __init__(self, table: Table, columns: Mapping[str, str], rows: np.ndarray, seconds: float):
        self.table, self.columns, self.rows, self.seconds = table, columns, rows, seconds
        self.concepts = np.zeros(len(rows), dtype=np.int64)
        self.labels = np.full(len(rows), -1, dtype=np.int64)
        self.targets: np.ndarray | None = None
        self.number: np.ndarray | None = None
        self.present: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def cell(self, row: int, kind: str) -> Any:
        """Return what the table holds."""
        return self.table.columns[self.columns[kind]][int(self.rows[row])]

    def read(self, row: int, modality: str, rng: np.random.Generator | None = None) -> Any:
        """Return the picture in RGB, the sound with its rate, or the caption.

        Of several captions `rng` draws one, without it they are joined. Raises RequestError for what cannot be decoded.
        """
        value = self.cell(row, modality)
        if modality == "text":
            return text_of(value[rng.integers(len(value))] if rng and isinstance(value, list) else value)
        try:
            stored = stored_in(value, self.table.base, modality)
            return read_picture(stored) if modality == "image" else read_sound(stored, self.seconds)
        except OSError as error:
            raise RequestError(f"{self.where(row)}: {complaint(error, modality)}") from error

    def texts(self, row: int) -> list[str]:
        """Return the row's captions, one or several."""
        value = self.cell(row, "text")
        return [text_of(one) for one in (value if isinstance(value, list) else [value])]

    def where(self, row: int) -> str:
        """Return file and line."""
        return self.table.places[int(self.rows[row])]

    def stamp(self) -> str:
        """Return a digest of the sizes and times of all files that these rows name: they may change below the table."""
        every = sha256()
        for kind in ("image", "audio"):
            rows = range(len(self)) if kind in self.columns else ()
            for row in rows if kind not in self.present else np.flatnonzero(self.present[kind]).tolist():
                stored = stored_in(self.cell(row, kind), self.table.base, kind)
                if isinstance(stored, Path):
                    about = stored.stat()
                    every.update(f"{about.st_size} {about.st_mtime_ns} ".encode())
        return every.hexdigest()[:16]

    def chosen(self, rows: Sequence[int] | np.ndarray) -> "TableSamples":
        """Return some of these rows."""
        part = TableSamples(self.table, self.columns, self.rows[rows], self.seconds)
        part.concepts, part.labels = self.concepts[rows], self.labels[rows]
        part.targets = None if self.targets is None else self.targets[rows]
        part.number = None if self.number is None else self.number[rows]
        part.present = chosen_present(self, np.asarray(rows))
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
    label_separator: str | None = None,
    labels_per_class: PositiveInt | None = None,
    seconds: PositiveFloat = 30.0,
    missing: Literal["raise", "keep"] = "raise",
) -> DataSource:
    """Return the splits at the paths `train`, `val` and `test`; without `val` a share of the training concepts is held out.

    `columns` maps image, text, audio, label, target (a number) and concept to a column, or to None. Rows are of one concept
    where the concept column says so, without one where they share picture, caption or sound. A label cell that is a list, or
    text with `label_separator`, holds several labels. Of `train`, `labels_per_class` rows of each class keep their label. Of a
    sound no more than the first `seconds` are read. With `missing` keep a row may have an empty cell for picture, caption or
    sound, as long as it has one of them. Raises RequestError for paths, columns and rows that are wrong.
    """
    paths = {name: path for name, path in (("train", train), ("val", val), ("test", test)) if path}
    chosen = _chosen(columns)
    tables = {name: read_table(path) for name, path in paths.items()}
    splits, skipped = {}, {}
    for name, one in tables.items():
        _check_columns(one, chosen)
        present = _present(one, chosen) if missing == "keep" else None
        faulty = faulty_rows(one, chosen, seconds, present)
        if faulty and on_error == "raise":
            raise RequestError(_first(faulty, one, chosen, missing))
        rows = np.setdiff1d(np.arange(len(one)), list(faulty))
        if not len(rows):
            raise RequestError(f"'{paths[name]}' has no row that can be read. {_first(faulty, one, chosen, missing)}")
        splits[name] = TableSamples(one, chosen, rows, seconds)
        lacking = {kind: there[rows] for kind, there in (present or {}).items()}
        splits[name].present = {kind: there for kind, there in lacking.items() if not there.all()}
        if faulty:
            skipped[name] = len(faulty)
            print(f"{paths[name]}: {len(faulty)} of {len(one)} rows left out. First: {faulty[min(faulty)]}")
    _number_concepts(splits)
    classes = number_labels(splits["train"], splits.values(), label_separator) if "label" in chosen else []
    for samples in splits.values() if "target" in chosen else ():
        samples.number = read_numbers(samples)
    if "val" not in splits and val_fraction:
        splits |= _with_validation(splits["train"], val_fraction)
    splits["train"].labels = keep_labels(splits["train"].labels, labels_per_class)
    modalities = [kind for kind in MODALITIES if kind in chosen]
    content = _fingerprint(tables, chosen, label_separator, labels_per_class)
    return DataSource(splits, modalities, classes, content, skipped)


def _chosen(columns: Mapping[str, str | None]) -> dict[str, str]:
    for kind in columns:
        if kind not in KINDS:
            raise RequestError(f"'data.columns.{kind}' is not a key.{nearest(kind, KINDS)}")
    chosen = {kind: column for kind, column in columns.items() if column is not None}
    if not set(MODALITIES) & set(chosen):
        raise RequestError("data.columns: neither image nor text nor audio is there. Set data.columns.image=COLUMN.")
    return chosen


def _check_columns(one: Table, chosen: Mapping[str, str]) -> None:
    for kind, column in chosen.items():
        if column not in one.columns:
            raise RequestError(
                f"'{one.name}' has no column '{column}' (data.columns.{kind}).{nearest(column, one.columns)} "
                f"Set data.columns.{kind}=COLUMN, or null to leave it out."
            )


def _present(one: Table, chosen: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return for each modality which rows (N,) have it."""
    cells = {kind: one.columns[chosen[kind]] for kind in MODALITIES if kind in chosen}
    return {kind: np.array([not is_empty(cells[kind][row]) for row in range(len(one))]) for kind in cells}


def _first(faulty: Mapping[int, str], one: Table, chosen: Mapping[str, str], missing: str) -> str:
    row = min(faulty)
    more = f" {len(faulty) - 1} more rows are wrong." if len(faulty) > 1 else ""
    empty = any(is_empty(one.columns[chosen[kind]][row]) for kind in MODALITIES if kind in chosen)
    keep = " data.missing=keep learns from what they have." if empty and missing == "raise" else ""
    return f"{faulty[row]}{more} data.on_error=skip leaves such rows out and counts them.{keep}"


def _number_concepts(splits: Mapping[str, TableSamples]) -> None:
    """Give rows of all splits that show the same thing the same number."""
    kinds = [kind for kind in ("concept", *MODALITIES) if kind in splits["train"].columns]
    if kinds[0] == "concept":
        kinds = ["concept"]
    every = [
        [_key(samples.cell(row, kind), kind) for kind in kinds]
        for samples in splits.values()
        for row in range(len(samples))
    ]
    numbers = concepts_of(every)
    start = 0
    for samples in splits.values():
        samples.concepts = numbers[start : start + len(samples)]
        start += len(samples)


def _key(cell: Any, kind: str) -> str | None:
    """Return what makes two cells the same; pictures and sounds kept as bytes are told apart without reading them.

    What two rows lack makes them not the same.
    """
    if kind in MODALITIES and is_empty(cell):
        return None
    if isinstance(cell, dict):
        cell = cell.get("path")
    return None if cell is None or isinstance(cell, bytes) else str(cell)


def _with_validation(train: TableSamples, fraction: float) -> dict[str, TableSamples]:
    held = hold_out(train.concepts, fraction)
    return {"train": train.chosen(np.flatnonzero(~held)), "val": train.chosen(np.flatnonzero(held))}


def _fingerprint(tables: Mapping[str, Table], chosen: Mapping[str, str], *labelling: Any) -> str:
    content = repr((sorted((name, one.digest) for name, one in tables.items()), sorted(chosen.items()), labelling))
    return sha256(content.encode()).hexdigest()[:16]
