"""Tables in all the forms that people keep pictures, captions, sounds and videos in, read into columns."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mmexp.data.archives import read_archives
from mmexp.data.arrow_tables import hugging_face, parquet, parquet_shards, saved_to_disk
from mmexp.data.contents import content_digest
from mmexp.data.faults import Faults
from mmexp.data.folders import rows_of_folder
from mmexp.data.json_tables import json_table
from mmexp.data.kinds import FILES
from mmexp.data.separated import separated
from mmexp.data.tables import Reading, Table
from mmexp.errors import RequestError

METADATA = ("metadata.csv", "metadata.tsv", "metadata.jsonl", "metadata.parquet")


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
        return hugging_face(path)
    file = Path(path).expanduser()
    # A path that is there is no pattern, whatever its name holds.
    if not file.exists() and ("{" in path or "*" in path):
        return _pattern(path, how)
    if file.is_dir():
        return _folder(file, how)
    if not file.is_file():
        hint = f" A data set of Hugging Face is put as hf://{path}." if re.fullmatch(r"[\w.-]+/[\w.-]+", path) else ""
        raise RequestError(f"there is no file or folder '{path}'.{hint}")
    reader = _BY_SUFFIX.get(file.suffix.lower())
    if reader is None:
        raise RequestError(f"'{path}' is no table that can be read. There are: {', '.join(_BY_SUFFIX)}, and folders.")
    return reader(file, how)


def _pattern(path: str, how: Reading) -> Table:
    """Return the shards that a pattern of braces or stars names: tars, or Parquet files."""
    from glob import glob

    from braceexpand import braceexpand

    try:
        expanded = list(braceexpand(path))
    except ValueError as error:
        raise RequestError(f"'{path}': {error}. Shards are put as name-{{000..012}}.tar.") from error
    if expanded == [path] and "*" not in path:
        raise RequestError(f"there is no file or folder '{path}', and its braces are no pattern such as {{000..012}}.")
    shards = [Path(found) for one in expanded for found in (sorted(glob(one)) if "*" in one else [one])]
    if not shards:
        raise RequestError(f"no file matches '{path}'.")
    if all(shard.suffix.lower() == ".parquet" for shard in shards):
        if missing := next((shard for shard in shards if not shard.is_file()), None):
            raise RequestError(f"there is no file '{missing}'.")
        return parquet_shards(path, shards, shards[0].parent)
    return _archives(path, shards, how)


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
    if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return saved_to_disk(folder)
    media = tuple(suffix for own in FILES.values() for suffix in own)
    shards = sorted(folder.glob("*.parquet"))
    if shards and not any(file.name.lower().endswith(media) for file in folder.iterdir()):
        return parquet_shards(str(folder), shards, folder)
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
    ".csv": separated,
    ".tsv": separated,
    ".json": json_table,
    ".jsonl": json_table,
    ".ndjson": json_table,
    ".parquet": parquet,
    ".tar": _archive,
}
