"""A user's own data: a table of pictures, texts, sounds and videos, in whatever form it is kept."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from mmexp.data.checking import faulty_rows
from mmexp.data.concepts import concepts_of, hold_out
from mmexp.data.decoding import Decoding
from mmexp.data.few_labels import keep_labels
from mmexp.data.labels import number_labels, read_numbers
from mmexp.data.readers import Table, read_table
from mmexp.data.stored import Slice, complaint, state_of, stored_in
from mmexp.errors import RequestError, nearest
from mmexp.types import DataSource, Fraction, PositiveFloat, PositiveInt

MODALITIES = ("image", "text", "audio", "video")
ANSWERS = ("label", "target", "concept")


class TableSamples:
    """Rows of a table, `rows (N,)` of them; `kinds` says of what kind each modality among the `columns` is."""

    def __init__(
        self, table: Table, columns: Mapping[str, str], kinds: Mapping[str, str], rows: np.ndarray, decode: Decoding
    ):
        self.table, self.columns, self.kinds, self.rows, self.decode = table, columns, kinds, rows, decode
        self.concepts = np.zeros(len(rows), dtype=np.int64)
        self.labels = np.full(len(rows), -1, dtype=np.int64)
        self.targets: np.ndarray | None = None
        self.number: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def cell(self, row: int, name: str) -> Any:
        """Return what the table holds."""
        return self.table.columns[self.columns[name]][int(self.rows[row])]

    def read(self, row: int, modality: str, rng: np.random.Generator | None = None) -> Any:
        """Return the picture in RGB, the sound with its rate, the frames of the video, or the text.

        Of several texts `rng` draws one, without it they are joined. Raises RequestError for what cannot be decoded.
        """
        value, kind = self.cell(row, modality), self.kinds[modality]
        if kind == "text":
            return text_of(value[rng.integers(len(value))] if rng and isinstance(value, list) else value)
        try:
            return self.decode(value, self.table.base, kind)
        except OSError as error:
            raise RequestError(f"{self.where(row)}: {complaint(error, kind)}") from error

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
        for name, kind in self.kinds.items():
            for row in range(len(self)) if kind != "text" else ():
                stored = stored_in(self.cell(row, name), self.table.base, kind)
                if isinstance(stored, Path):
                    every.update(f"{state_of(stored)} ".encode())
        return every.hexdigest()[:16]

    def chosen(self, rows: Sequence[int] | np.ndarray) -> "TableSamples":
        """Return some of these rows."""
        part = TableSamples(self.table, self.columns, self.kinds, self.rows[rows], self.decode)
        part.concepts, part.labels = self.concepts[rows], self.labels[rows]
        part.targets = None if self.targets is None else self.targets[rows]
        part.number = None if self.number is None else self.number[rows]
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
    frames: PositiveInt = 8,
    kinds: Mapping[str, str] = MappingProxyType({}),
) -> DataSource:
    """Return the splits at the paths `train`, `val` and `test`; without `val` a share of the training concepts is held out.

    `columns` maps image, text, audio, video, label, target (a number) and concept to a column, or to None; further modalities
    too, whose `kinds` (image, text, audio or video) `build` knows by their encoders. Rows are of one concept where the concept
    column says so, without one where they share picture, text, sound or video. A label cell that is a list, or text with
    `label_separator`, holds several labels. Of `train`, `labels_per_class` rows of each class keep their label. Of a sound the
    first `seconds` are read, of a video `frames` frames. Raises RequestError for paths, columns and rows that are wrong.
    """
    paths = {name: path for name, path in (("train", train), ("val", val), ("test", test)) if path}
    chosen = _chosen(columns, kinds)
    modalities = {name: kinds.get(name, name) for name in chosen if name not in ANSWERS}
    decode = Decoding(seconds, frames)
    tables = {name: read_table(path) for name, path in paths.items()}
    splits, skipped = {}, {}
    for name, one in tables.items():
        _check_columns(one, chosen)
        faulty = faulty_rows(one, chosen, modalities, decode)
        if faulty and on_error == "raise":
            raise RequestError(_first(faulty))
        rows = np.setdiff1d(np.arange(len(one)), list(faulty))
        if not len(rows):
            raise RequestError(f"'{paths[name]}' has no row that can be read. {_first(faulty)}")
        splits[name] = TableSamples(one, chosen, modalities, rows, decode)
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
    content = _fingerprint(tables, chosen, label_separator, labels_per_class)
    return DataSource(splits, list(modalities), classes, content, skipped)


def _chosen(columns: Mapping[str, str | None], kinds: Mapping[str, str]) -> dict[str, str]:
    """Return what is chosen of `columns`: modalities first, in an order that does not depend on how they were asked for."""
    known = (*MODALITIES, *sorted(kinds), *ANSWERS)
    for name in columns:
        if name not in known:
            raise RequestError(
                f"'data.columns.{name}' is not a key.{nearest(name, known)} "
                f"A further modality has an encoder of its name: +encoder/text@encoder.{name}=transformer."
            )
    chosen = {name: column for name in known if (column := columns.get(name)) is not None}
    if not set(chosen) - set(ANSWERS):
        raise RequestError("data.columns: no modality is there. Set data.columns.image=COLUMN.")
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
    train = splits["train"]
    names = ["concept"] if "concept" in train.columns else list(train.kinds)
    every = [
        [_key(samples.cell(row, name)) for name in names] for samples in splits.values() for row in range(len(samples))
    ]
    numbers = concepts_of(every)
    start = 0
    for samples in splits.values():
        samples.concepts = numbers[start : start + len(samples)]
        start += len(samples)


def _key(cell: Any) -> str | None:
    """Return what makes two cells the same; pictures and sounds kept as bytes are told apart without reading them."""
    if isinstance(cell, dict):
        cell = cell.get("path")
    return None if cell is None or isinstance(cell, bytes) else str(cell)


def _with_validation(train: TableSamples, fraction: float) -> dict[str, TableSamples]:
    held = hold_out(train.concepts, fraction)
    return {"train": train.chosen(np.flatnonzero(~held)), "val": train.chosen(np.flatnonzero(held))}


def _fingerprint(tables: Mapping[str, Table], chosen: Mapping[str, str], *labelling: Any) -> str:
    content = repr((sorted((name, one.digest) for name, one in tables.items()), sorted(chosen.items()), labelling))
    return sha256(content.encode()).hexdigest()[:16]
