"""Reading every row once before training, so that a bad one is told at the start and not after an hour."""

import json
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from mmexp.data.decoding import Decoding
from mmexp.data.readers import Table
from mmexp.data.stored import NAMES, complaint, state_of

_SAY_FROM_ROWS = 20_000


def cache_folder() -> Path:
    """Return where results that outlive a run are kept: MMEXP_CACHE, else mmexp in the user's cache folder."""
    own = os.environ.get("MMEXP_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mmexp"


def faulty_rows(table: Table, columns: Mapping[str, str], kinds: Mapping[str, str], decode: Decoding) -> dict[int, str]:
    """Return what is wrong with which row: no text, no picture, sound or video, or one that cannot be decoded.

    `kinds` says of what kind each modality among `columns` is. All rows are read, by all cores, as `decode` reads them; what
    was found is remembered for as long as table and files stay as they are.
    """
    faulty: dict[int, str] = {}
    for modality, kind in kinds.items():
        found = _checked(table, columns[modality], kind, decode) if kind in NAMES else {}
        faulty |= {row: f"{table.places[row]}: {fault}" for row, fault in found.items()}
    for modality in (name for name, kind in kinds.items() if kind == "text"):
        faulty |= _without_text(table, columns[modality])
    return faulty


def _checked(table: Table, column: str, kind: str, decode: Decoding) -> dict[int, str]:
    memory = cache_folder() / "checked" / f"{_state(table, column, kind, decode)}.json"
    if memory.is_file():
        return {int(row): fault for row, fault in json.loads(memory.read_text()).items()}
    faulty = _undecodable(table, column, kind, decode)
    _remember(memory, faulty)
    return faulty


def _remember(memory: Path, faulty: dict[int, str]) -> None:
    temporary = memory.with_suffix(f".{os.getpid()}")
    # Where nothing can be written, the next run reads the pictures again.
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(faulty))
        os.replace(temporary, memory)


def _without_text(table: Table, column: str) -> dict[int, str]:
    cells = table.columns[column]
    empty = [row for row in range(len(table)) if cells[row] in (None, []) or not str(cells[row]).strip()]
    return {row: f"{table.places[row]}: column '{column}' is empty." for row in empty}


def _undecodable(table: Table, column: str, kind: str, decode: Decoding) -> dict[int, str]:
    cells = table.columns[column]

    def fault(row: int) -> str | None:
        try:
            decode(cells[row], table.base, kind)
        except OSError as error:
            return complaint(error, kind)
        return None

    if len(table) >= _SAY_FROM_ROWS:
        print(f"{table.name}: reading all {len(table):,} {NAMES[kind]}s once", file=sys.stderr)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(fault, range(len(table)))
        return {row: text for row, text in enumerate(found) if text}


def _state(table: Table, column: str, kind: str, decode: Decoding) -> str:
    """Return a fingerprint of the table and of size and time of every file."""
    how = " ".join(map(str, (kind, *decode.limits(kind))))
    digest = sha256(f"{table.base.resolve()} {table.digest} {column} {how}".encode())
    for cell in table.columns[column]:
        if isinstance(cell, str):
            try:
                digest.update(f"{state_of(table.base / cell)};".encode())
            except OSError:
                digest.update(b"missing;")
    return digest.hexdigest()
