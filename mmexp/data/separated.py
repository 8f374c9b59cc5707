"""CSV and TSV: the separator is found, and a quote that is not closed is named or, in TSV, literal."""

import csv
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mmexp.data.encodings import encoding_of
from mmexp.data.faults import Faults
from mmexp.data.tables import Reading, Table, check_names, table_of
from mmexp.errors import RequestError

_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
_SAMPLED = 50  # lines
# A field as spreadsheets quote it: quotes around it, and those within are doubled.
_QUOTED = re.compile(r'"(?:[^"]|"")*"')

Row = tuple[int, list[str]]


def separated(file: Path, how: Reading) -> Table:
    """Return a CSV or TSV. Raises RequestError for a quote that is not closed, and for columns of one name."""
    try:
        return table_of(file, _rows(file, how.faults))
    except UnicodeDecodeError as error:
        raise RequestError(f"{file}: it is neither UTF-8 nor UTF-16. Save the table as UTF-8.") from error


def _rows(file: Path, faults: Faults) -> Iterator[tuple[str, Mapping[str, Any]]]:
    csv.field_size_limit(sys.maxsize)
    encoding = encoding_of(file, faults)
    # What is no UTF-8 is found in its own row, and not when the file is opened.
    with file.open(encoding=encoding, errors="surrogateescape", newline="") as lines:
        usual = "\t" if file.suffix.lower() == ".tsv" else ","
        by = _separator(list(islice(lines, _SAMPLED)), usual)
        if by != usual:
            faults.notes.append(f"{file}: columns are separated by {_SEPARATORS[by]}")
        lines.seek(0)
        every = _by_tabs(re.split(r"\r\n|\n|\r", lines.read())) if by == "\t" else _quoted(file, lines, by, faults)
        _, names = next(every, (1, []))
        check_names(f"{file}, line 1", names)
        for line, fields in every:
            place = f"{file}, line {line}"
            if len(fields) != len(names):
                faults(place, f"it does not have the {len(names)} fields of the first line.")
            elif not all(map(_is_text, fields)):
                faults(place, "it is not UTF-8. Save the table as UTF-8.")
            else:
                yield place, dict(zip(names, fields, strict=True))


def _separator(sample: Sequence[str], usual: str) -> str:
    """Return what separates the first line into several fields and most of the next ones into as many; else what is `usual`."""
    best, found = 0.0, usual
    for by in (usual, *(one for one in _SEPARATORS if one != usual)):
        rows = [fields for fields in csv.reader(sample, delimiter=by) if fields]
        alike = sum(len(fields) == len(rows[0]) for fields in rows) / len(rows) if rows and len(rows[0]) > 1 else 0
        if alike > best:
            best, found = alike, by
    return found


def _by_tabs(lines: Sequence[str]) -> Iterator[Row]:
    """Yield the lines of a TSV. Quotes are literal, unless every field that holds one is quoted as spreadsheets do it."""
    rows = [(number, line.split("\t")) for number, line in enumerate(lines, 1) if line]
    with_quotes = [field for _, fields in rows for field in fields if '"' in field]
    if with_quotes and all(map(_QUOTED.fullmatch, with_quotes)):
        rows = [(number, list(map(_unquoted, fields))) for number, fields in rows]
    yield from rows


def _unquoted(field: str) -> str:
    return field[1:-1].replace('""', '"') if '"' in field else field


def _quoted(file: Path, lines: Any, by: str, faults: Faults) -> Iterator[Row]:
    """Yield the rows of a CSV, each with the line where it ends."""
    reader, end, long = csv.reader(lines, delimiter=by, strict=True), 0, []
    try:
        for fields in reader:
            if reader.line_num > end + 1:
                long.append((end + 1, reader.line_num))
            end = reader.line_num
            if fields:
                yield end, fields
    except csv.Error as error:
        told = f"a quote opens in this row and is not closed as it should be ({error}). Double quotes within a quoted field."
        raise RequestError(f"{file}, line {end + 1}: {told}") from error
    if long:
        first, last = long[0]
        faults.notes.append(f"{file}: {len(long)} rows span several lines, the first from line {first} to {last}")


def _is_text(value: str) -> bool:
    return value.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in value)
