"""JSON: an object a line, or an array of objects."""

import codecs
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmexp.data.encodings import encoding_of
from mmexp.data.faults import Faults
from mmexp.data.tables import Reading, Table, table_of
from mmexp.errors import RequestError

_ROW = 'a row is an object such as {"image": ..., "caption": ...}.'


def json_table(file: Path, how: Reading) -> Table:
    """Return JSON lines, or an array of objects, whatever the file's name ends in."""
    encoding = encoding_of(file, how.faults)
    content = file.read_bytes()
    # JSON is UTF-8 below.
    try:
        content = (
            content.removeprefix(codecs.BOM_UTF8) if encoding == "utf-8-sig" else content.decode(encoding).encode()
        )
    except UnicodeDecodeError as error:
        raise RequestError(f"{file}: it is neither UTF-8 nor {encoding.upper()}. Save the table as UTF-8.") from error
    rows = _array(file, content, how.faults) if _is_array(file, content) else _lines(file, content, how.faults)
    return table_of(file, rows)


def _is_array(file: Path, content: bytes) -> bool:
    """Say whether a file is one array, and not lines of which the first is one."""
    start = content.lstrip()
    # Within lines an array would be no row; there the line is named.
    return start.startswith(b"[") and (file.suffix.lower() == ".json" or start[1:].lstrip().startswith(b"{"))


def _array(file: Path, content: bytes, faults: Faults) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        rows = json.loads(content)
    except json.JSONDecodeError as error:
        raise RequestError(f"{file}, line {error.lineno}: not JSON ({error.msg}, column {error.colno}).") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"{file}: it cannot be read: {error}.") from error
    for number, row in enumerate(rows):
        place = f"{file}, row {number} (counted from 0)"
        if isinstance(row, dict):
            yield place, row
        else:
            faults(place, _ROW)


def _lines(file: Path, content: bytes, faults: Faults) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        place = f"{file}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            faults(place, f"not JSON ({error.msg}, column {error.colno}).")
        except (UnicodeDecodeError, RecursionError) as error:
            faults(place, f"it cannot be read: {error}.")
        else:
            if isinstance(row, dict):
                yield place, row
            else:
                faults(place, _ROW)
