"""Tables in all the forms that people keep pictures, captions, sounds and videos in, read into columns."""

import codecs
import csv
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmexp.data.archives import read_archives
from mmexp.data.class_labels import named_columns, stored_features
from mmexp.data.contents import content_digest
from mmexp.data.faults import Faults
from mmexp.data.folders import rows_of_folder
from mmexp.data.kinds import FILES
from mmexp.errors import RequestError

METADATA = ("metadata.csv", "metadata.tsv", "metadata.jsonl", "metadata.parquet")


@dataclass(frozen=True)
class Table:
    """Columns of equal length. `base` is what paths in them are relative to, `places` says where each row stands.

    `class_folder`: it is a folder of files with one sub-folder a class.
    """

    name: str
    columns: Mapping[str, Sequence[Any]]
    base: Path
    places: Sequence[str]
    digest: str = field(default="", compare=False)
    faults: Sequence[str] = ()
    notes: Sequence[str] = ()
    class_folder: bool = False

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True)
class Reading:
    """How a table is read: what becomes of rows that cannot be, and whether a line of a .txt is a caption of its own."""

    faults: Faults
    each_line: bool = False


def read_table(path: str, skip: bool = False, each_line: bool = False) -> Table:
    """Return the table at `path`.

    Args:
        path: a file, a folder, tars by a brace pattern, or `hf://owner/name`.
        skip: whether rows that cannot be read are left out; they are the table's `faults`.
        each_line: whether each line of a .txt, in a tar or beside a file of a folder, is a caption of its own.

    Raises:
        RequestError: where there is no table, it has no rows, or one cannot be read.
    """
    faults = Faults(skip)
    table = replace(_read(path, Reading(faults, each_line)), faults=faults.found, notes=faults.notes)
    if not len(table):
        raise RequestError(
            f"'{path}' has no rows{' that can be read. First: ' + faults.found[0] if faults.found else '.'}"
        )
    return table


def _read(path: str, how: Reading) -> Table:
    if path.startswith("hf://"):
        return _hugging_face(path)
    # A file or folder may have braces in its name.
    if "{" in path and not Path(path).expanduser().exists():
        from braceexpand import braceexpand

        try:
            return _archives(path, [Path(shard) for shard in braceexpand(path)], how)
        except ValueError as error:
            raise RequestError(f"'{path}': {error}. Shards are put as name-{{000..012}}.tar.") from error
    file = Path(path).expanduser()
    if file.is_dir():
        return _folder(file, how)
    if not file.is_file():
        hint = f" A data set of Hugging Face is put as hf://{path}." if re.fullmatch(r"[\w.-]+/[\w.-]+", path) else ""
        raise RequestError(f"there is no file or folder '{path}'.{hint}")
    reader = _BY_SUFFIX.get(file.suffix.lower())
    if reader is None:
        raise RequestError(f"'{path}' is no table that can be read. There are: {', '.join(_BY_SUFFIX)}, and folders.")
    return reader(file, how)


def _table(file: Path, rows: Iterator[tuple[str, Mapping[str, Any]]]) -> Table:
    """Return rows (each with its place) as columns; a row may lack some."""
    every = list(rows)
    names = list(dict.fromkeys(name for _, row in every for name in row))
    columns = {name: [row.get(name) for _, row in every] for name in names}
    return Table(str(file), columns, file.parent, [place for place, _ in every], content_digest([file]))


def _separated(file: Path, how: Reading) -> Table:
    return _table(file, _separated_rows(file, how.faults))


def _separated_rows(file: Path, faults: Faults) -> Iterator[tuple[str, Mapping[str, Any]]]:
    csv.field_size_limit(sys.maxsize)
    line = 1
    # What is no UTF-8 is found in its own row, and not when the file is opened.
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        try:
            header = lines.readline()
            lines.seek(0)
            reader = csv.DictReader(lines, delimiter="\t" if "\t" in header and "," not in header else _comma(file))
            for row in reader:
                line = reader.line_num
                if None in row or None in row.values():
                    fields = len(reader.fieldnames or ())
                    faults(f"{file}, line {line}", f"it does not have the {fields} fields of the first line.")
                elif not all(map(_is_text, row.values())):
                    faults(f"{file}, line {line}", "it is not UTF-8. Save the table as UTF-8.")
                else:
                    yield f"{file}, line {line}", row
        except csv.Error as error:
            raise RequestError(f"{file}, after line {line}: {error}.") from error


def _is_text(value: str) -> bool:
    return value.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in value)


def _comma(file: Path) -> str:
    return "\t" if file.suffix.lower() == ".tsv" else ","


def _json(file: Path, how: Reading) -> Table:
    return _table(file, _json_rows(file, how.faults))


def _json_rows(file: Path, faults: Faults) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            line = line.removeprefix(codecs.BOM_UTF8)
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
                    faults(place, 'a row is an object such as {"image": ..., "caption": ...}.')


class _Arrow(Sequence[Any]):
    """A column of Arrow, whose cells become Python values when they are asked for."""

    def __init__(self, column: Any):
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, row: Any) -> Any:
        return self.column[int(row)].as_py()


def _parquet(file: Path, _: Reading) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        whole = pq.ParquetFile(file, memory_map=True).read()
    except pa.ArrowException as error:
        raise RequestError(f"'{file}' cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    return _of_arrow(str(file), whole, file.parent, content_digest([file]))


def _of_arrow(name: str, whole: Any, base: Path, digest: str) -> Table:
    columns: dict[str, Sequence[Any]] = {column: _Arrow(whole[column]) for column in whole.column_names}
    columns = named_columns(columns, stored_features(whole.schema.metadata))
    return Table(name, columns, base, _Counted(name, whole.num_rows), digest)


class _Counted(Sequence[str]):
    def __init__(self, name: str, rows: int):
        self.name, self.rows = name, rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: Any) -> Any:
        return f"{self.name}, row {row} (counted from 0)"


def _hugging_face(path: str) -> Table:
    from datasets import Audio, Image, Video, load_dataset
    from huggingface_hub.constants import HF_HOME

    name, _, split = path.removeprefix("hf://").partition(":")
    try:
        data: Any = load_dataset(name, split=split or "train")
    except Exception as error:  # the library raises whatever its file systems and parsers do
        raise RequestError(f"{path}: {str(error).splitlines()[0]}") from error
    for column, kind in data.features.items():
        if isinstance(kind, Image | Audio | Video):
            data = data.cast_column(column, type(kind)(decode=False))
    columns: dict[str, Sequence[Any]] = {column: _Column(data, column) for column in data.column_names}
    columns = named_columns(columns, data.features.to_dict())
    # Files that cells name lie where the library downloaded them, or in the folder that was named.
    base = Path(name) if Path(name).is_dir() else Path(HF_HOME)
    return Table(path, columns, base, _Counted(path, len(data)), str(data._fingerprint))


class _Column(Sequence[Any]):
    def __init__(self, data: Any, name: str):
        self.data, self.name = data, name

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: Any) -> Any:
        return self.data[int(row)][self.name]


def _folder(folder: Path, how: Reading) -> Table:
    for name in METADATA:
        if (folder / name).is_file():
            table = _read(str(folder / name), how)
            if "file_name" not in table.columns:
                return table
            files = table.columns["file_name"]
            first = str(next(iter(files), "")).lower()
            kind = next((kind for kind, suffixes in FILES.items() if first.endswith(suffixes)), "image")
            return Table(table.name, {kind: files, **table.columns}, table.base, table.places, table.digest)
    rows = rows_of_folder(folder, how.faults, how.each_line)
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    listing = "\n".join(f"{row}" for _, row in rows)
    columns = {name: [row.get(name) for _, row in rows] for name in names}
    digest = hashlib.sha256(listing.encode()).hexdigest()
    classes = {row.get("label") for _, row in rows} - {None}
    return Table(str(folder), columns, folder, [place for place, _ in rows], digest, class_folder=len(classes) > 1)


def _archive(file: Path, how: Reading) -> Table:
    return _archives(str(file), [file], how)


def _archives(name: str, shards: Sequence[Path], how: Reading) -> Table:
    columns, places = read_archives(shards, how.faults, how.each_line)
    return Table(name, columns, Path(), places, content_digest(shards))


_BY_SUFFIX: dict[str, Callable[[Path, Reading], Table]] = {
    ".csv": _separated,
    ".tsv": _separated,
    ".jsonl": _json,
    ".ndjson": _json,
    ".parquet": _parquet,
    ".tar": _archive,
}
