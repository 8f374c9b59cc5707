"""Reading every row once before training, so that a bad one is told at the start and not after an hour."""

import json
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np

from mmexp.data.pictures import read_picture
from mmexp.data.readers import Table
from mmexp.data.sounds import read_sound
from mmexp.data.stored import NAMES, complaint, stored_in

_SAY_FROM_ROWS = 20_000


def cache_folder() -> Path:
    """Return where results that outlive a run are kept: MMEXP_CACHE, else mmexp in the user's cache folder."""
    own = os.environ.get("MMEXP_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mmexp"


def faulty_rows(
    table: Table, columns: Mapping[str, str], seconds: float, present: Mapping[str, np.ndarray] | None = None
) -> dict[int, str]:
    """Return what is wrong with which row: no caption, no picture or sound, or one that cannot be decoded.

    All rows are read, by all cores, of a sound the first `seconds`; what was found is remembered for as long as table and
    files stay as they are. Where rows may lack a modality, `present` says which do not; then only those without any are wrong.
    """
    faulty: dict[int, str] = {}
    for modality in (name for name in NAMES if name in columns):
        found = _checked(table, columns[modality], modality, seconds)
        kept = found if present is None else [row for row in found if present[modality][row]]
        faulty |= {row: f"{table.places[row]}: {found[row]}" for row in kept}
    if present is None:
        return faulty | _without_text(table, columns)
    named = " and ".join(f"'{columns[name]}'" for name in present)
    nothing = np.flatnonzero(~np.any(list(present.values()), axis=0)).tolist()
    return faulty | {row: f"{table.places[row]}: there is nothing in {named}." for row in nothing}


def _checked(table: Table, column: str, modality: str, seconds: float) -> dict[int, str]:
    memory = cache_folder() / "checked" / f"{_state(table, column, modality, seconds)}.json"
    if memory.is_file():
        return {int(row): fault for row, fault in json.loads(memory.read_text()).items()}
    faulty = _undecodable(table, column, modality, seconds)
    _remember(memory, faulty)
    return faulty


def _remember(memory: Path, faulty: dict[int, str]) -> None:
    temporary = memory.with_suffix(f".{os.getpid()}")
    # Where nothing can be written, the next run reads the pictures again.
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(faulty))
        os.replace(temporary, memory)


def _without_text(table: Table, columns: Mapping[str, str]) -> dict[int, str]:
    if "text" not in columns:
        return {}
    column = table.columns[columns["text"]]
    empty = [row for row in range(len(table)) if column[row] in (None, []) or not str(column[row]).strip()]
    return {row: f"{table.places[row]}: column '{columns['text']}' is empty." for row in empty}


def _undecodable(table: Table, column: str, modality: str, seconds: float) -> dict[int, str]:
    cells = table.columns[column]

    def fault(row: int) -> str | None:
        try:
            stored = stored_in(cells[row], table.base, modality)
            read_picture(stored) if modality == "image" else read_sound(stored, seconds)
        except OSError as error:
            return complaint(error, modality)
        return None

    if len(table) >= _SAY_FROM_ROWS:
        print(f"{table.name}: reading all {len(table):,} {NAMES[modality]}s once", file=sys.stderr)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(fault, range(len(table)))
        return {row: text for row, text in enumerate(found) if text}


def _state(table: Table, column: str, modality: str, seconds: float) -> str:
    """Return a fingerprint of the table and of size and time of every file."""
    how = modality if modality == "image" else f"{modality} {seconds}"
    digest = sha256(f"{table.base.resolve()} {table.digest} {column} {how}".encode())
    for cell in table.columns[column]:
        if isinstance(cell, str):
            try:
                facts = os.stat(table.base / cell)
                digest.update(f"{facts.st_size} {facts.st_mtime_ns};".encode())
            except OSError:
                digest.update(b"missing;")
    return digest.hexdigest()
