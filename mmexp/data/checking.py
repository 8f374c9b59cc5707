"""Reading every row once before training, so that a bad one is told at the start and not after an hour."""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from mmexp.data.contents import cache_folder, remember, state_of
from mmexp.data.decoding import Decoding
from mmexp.data.stored import NAMES, complaint, is_empty, stored_in
from mmexp.data.tables import Table

_SAY_FROM_ROWS = 20_000


def present_in(table: Table, columns: Mapping[str, str], modalities: Iterable[str]) -> dict[str, np.ndarray]:
    """Return for each modality which rows (N,) have it: their cell is not empty."""
    cells = {name: table.columns[columns[name]] for name in modalities}
    return {name: np.array([not is_empty(own[row]) for row in range(len(table))]) for name, own in cells.items()}


def faulty_rows(
    table: Table,
    columns: Mapping[str, str],
    kinds: Mapping[str, str],
    decode: Decoding,
    present: Mapping[str, np.ndarray] | None = None,
) -> dict[int, str]:
    """Return what is wrong with which row: no text, no picture, sound or video, or one that cannot be decoded.

    `kinds` says of what kind each modality among `columns` is. All rows are read, by all cores, as `decode` reads them; what
    was found is remembered for as long as table and files stay as they are. Where rows may lack a modality, `present` says
    which do not; then only those without any are wrong.
    """
    faulty: dict[int, str] = {}
    for name, kind in sorted(kinds.items(), key=lambda one: one[1] == "text"):
        own = columns[name]
        found = _without_text(table, own) if kind == "text" else _checked(table, own, kind, decode)
        faulty |= {row: fault for row, fault in found.items() if present is None or present[name][row]}
    if present is not None:
        named = " and ".join(f"'{columns[name]}'" for name in present)
        nothing = np.flatnonzero(~np.any(list(present.values()), axis=0)).tolist()
        faulty |= dict.fromkeys(nothing, f"there is nothing in {named}.")
    return {row: f"{table.places[row]}: {fault}" for row, fault in faulty.items()}


def _checked(table: Table, column: str, kind: str, decode: Decoding) -> dict[int, str]:
    memory = cache_folder() / "checked" / f"{_state(table, column, kind, decode)}.json"
    if memory.is_file():
        return {int(row): fault for row, fault in json.loads(memory.read_text()).items()}
    faulty = _undecodable(table, column, kind, decode)
    remember(memory, json.dumps(faulty))
    return faulty


def _without_text(table: Table, column: str) -> dict[int, str]:
    cells = table.columns[column]
    return {row: f"column '{column}' is empty." for row in range(len(table)) if is_empty(cells[row])}


def _undecodable(table: Table, column: str, kind: str, decode: Decoding) -> dict[int, str]:
    cells = table.columns[column]

    def fault(row: int) -> str | None:
        try:
            decode(cells[row], table.base, kind)
        except OSError as error:
            return complaint(error, kind)
        return None

    # A file that several rows name, as of one row a caption, is decoded once.
    first: dict[Any, int] = {}
    for row in range(len(table)):
        first.setdefault(cells[row] if isinstance(cells[row], str) else row, row)
    rows = list(first.values())

    if len(table) >= _SAY_FROM_ROWS:
        print(f"{table.name}: reading all {len(table):,} {NAMES[kind]}s once", file=sys.stderr)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = dict(zip(rows, pool.map(fault, rows), strict=True))
    own = (first[cells[row] if isinstance(cells[row], str) else row] for row in range(len(table)))
    return {row: text for row, one in enumerate(own) if (text := faults[one])}


def _state(table: Table, column: str, kind: str, decode: Decoding) -> str:
    """Return a fingerprint of the table and of size and time of every file."""
    how = " ".join(map(str, (kind, *decode.limits(kind), decode.anywhere)))
    digest = sha256(f"{table.base.resolve()} {table.digest} {column} {how}".encode())
    for cell in table.columns[column]:
        if is_empty(cell):
            continue
        try:
            stored = stored_in(cell, table.base, kind)
            if isinstance(stored, Path):
                digest.update(f"{state_of(stored)};".encode())
        except OSError:
            digest.update(b"missing;")
    return digest.hexdigest()
