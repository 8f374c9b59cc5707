"""The rows of a table, read one by one."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from mmexp.data.chosen import chosen_present, text_items_of
from mmexp.data.contents import state_of
from mmexp.data.decoding import Decoding
from mmexp.data.stored import Slice, Stored, complaint, stored_in
from mmexp.data.tables import Table
from mmexp.errors import RequestError


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
        self.present: dict[str, np.ndarray] = {}
        self.items: dict[str, np.ndarray] = {}

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

    def has(self, row: int, name: str) -> bool:
        """Say whether a row has a modality."""
        return name not in self.present or bool(self.present[name][row])

    def stored(self, row: int, name: str) -> Stored | None:
        """Return where a row's picture, sound or video is, None where the row lacks it."""
        return stored_in(self.cell(row, name), self.table.base, self.kinds[name]) if self.has(row, name) else None

    def texts(self, row: int) -> list[str]:
        """Return the row's captions, one or several."""
        value = self.cell(row, "text")
        return [text_of(one) for one in (value if isinstance(value, list) else [value])]

    def text_items(self, row: int) -> list[int]:
        """Return the item number of each of the row's captions."""
        return text_items_of(self, row)

    def chooses_texts(self, modality: str) -> bool:
        """Return whether some row has several texts of a modality, of which training draws one."""
        cells = (self.cell(row, modality) for row in range(len(self)))
        return any(isinstance(cell, list) and len(cell) > 1 for cell in cells)

    def where(self, row: int) -> str:
        """Return file and line."""
        return self.table.places[int(self.rows[row])]

    def files(self) -> list[Path]:
        """Return the distinct files, tars and folders of frames that these rows are read from, in the order of the rows."""
        found: dict[Path, None] = {}
        for name, kind in self.kinds.items():
            there = self.present.get(name, np.ones(len(self), dtype=bool))
            for row in np.flatnonzero(there).tolist() if kind != "text" else ():
                stored = stored_in(self.cell(row, name), self.table.base, kind)
                if isinstance(stored, Path | Slice):
                    found[stored.file if isinstance(stored, Slice) else stored] = None
        return list(found)

    def stamp(self) -> str:
        """Return a digest of the states of all files that these rows are read from: they may change below the table."""
        return sha256(" ".join(map(state_of, self.files())).encode()).hexdigest()[:16]

    def chosen(self, rows: Sequence[int] | np.ndarray) -> "TableSamples":
        """Return some of these rows."""
        part = TableSamples(self.table, self.columns, self.kinds, self.rows[rows], self.decode)
        part.concepts, part.labels = self.concepts[rows], self.labels[rows]
        part.targets = None if self.targets is None else self.targets[rows]
        part.number = None if self.number is None else self.number[rows]
        part.present = chosen_present(self, np.asarray(rows))
        part.items = {name: own[rows] for name, own in self.items.items()}
        return part


def text_of(value: Any) -> str:
    """Return a caption; several of one picture are joined."""
    if isinstance(value, Slice):
        value = value.read_bytes().decode()
    return ". ".join(map(str, value)) if isinstance(value, list) else str(value)
