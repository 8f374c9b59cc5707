"""Parquet files, folders of shards, and data sets of Hugging Face: cells become Python values when they are asked for."""

import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from mmexp.data.class_labels import named_columns, stored_features
from mmexp.data.contents import content_digest
from mmexp.data.tables import Counted, Reading, Table, check_names
from mmexp.errors import RequestError

# As the library datasets names the shards of a split.
_SHARD = re.compile(r"(.+?)-\d+-of-\d+")
_SPLITS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")


class _Arrow(Sequence[Any]):
    """A column of Arrow."""

    def __init__(self, column: Any):
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, row: Any) -> Any:
        return self.column[int(row)].as_py()


class _Column(Sequence[Any]):
    """A column of a data set."""

    def __init__(self, data: Any, name: str):
        self.data, self.name = data, name

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: Any) -> Any:
        return self.data[int(row)][self.name]


def parquet(file: Path, _: Reading) -> Table:
    """Return a Parquet file."""
    return parquet_shards(str(file), [file], file.parent)


def parquet_shards(name: str, files: Sequence[Path], base: Path) -> Table:
    """Return the rows of several Parquet files, one after the other. Raises RequestError for shards of several splits."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    splits = sorted({one for file in files if (one := _split_of(file))})
    if len(splits) > 1:
        raise RequestError(
            f"'{name}' has the splits {' and '.join(splits)}. Name the files of one: '{base / splits[-1]}*.parquet'."
        )
    tables = []
    for file in files:
        try:
            tables.append(pq.ParquetFile(file, memory_map=True).read())
        except pa.ArrowException as error:
            raise RequestError(f"'{file}' cannot be read as Parquet: {str(error).splitlines()[0]}") from error
        check_names(str(file), tables[-1].column_names)
    try:
        whole = pa.concat_tables(tables, promote_options="default")
    except pa.ArrowException as error:
        raise RequestError(f"'{name}': its shards have different columns: {str(error).splitlines()[0]}") from error
    columns: dict[str, Sequence[Any]] = {column: _Arrow(whole[column]) for column in whole.column_names}
    columns = named_columns(columns, stored_features(tables[0].schema.metadata))
    return Table(name, columns, base, Counted(name, whole.num_rows), content_digest(files))


def _split_of(file: Path) -> str | None:
    shard = _SHARD.fullmatch(file.stem)
    return shard[1] if shard else file.stem if file.stem in _SPLITS else None


def saved_to_disk(folder: Path) -> Table:
    """Return a data set that `save_to_disk` wrote. Raises RequestError for several splits, and what the library refuses."""
    from datasets import load_from_disk

    if (folder / "dataset_dict.json").is_file():
        splits = sorted(path.name for path in folder.iterdir() if (path / "state.json").is_file())
        raise RequestError(
            f"'{folder}' has the splits {', '.join(splits)}. Name one: '{folder / (splits or ['train'])[-1]}'."
        )
    try:
        data: Any = load_from_disk(str(folder))
    except Exception as error:  # the library raises whatever its file systems and parsers do
        raise RequestError(f"'{folder}' cannot be read as a data set: {str(error).splitlines()[0]}") from error
    files = sorted(file for file in folder.iterdir() if file.is_file())
    return _data_set(str(folder), data, folder, content_digest(files))


def hugging_face(path: str) -> Table:
    """Return `hf://owner/name[:configuration][@split]`, by default the split train. Raises RequestError for what there is not."""
    from datasets import load_dataset
    from huggingface_hub.constants import HF_HOME

    whole, _, split = path.removeprefix("hf://").partition("@")
    name, _, configuration = whole.partition(":")
    try:
        data: Any = load_dataset(name, configuration or None, split=split or "train")
    except Exception as error:  # the library raises whatever its file systems and parsers do
        hint = f" A split is put behind @: hf://{name}@{configuration}." if configuration and not split else ""
        raise RequestError(f"{path}: {str(error).splitlines()[0]}{hint}") from error
    # Files that cells name lie where the library downloaded them, or in the folder that was named.
    base = Path(name) if Path(name).is_dir() else Path(HF_HOME)
    return _data_set(path, data, base, str(data._fingerprint))


def _data_set(name: str, data: Any, base: Path, digest: str) -> Table:
    from datasets import Audio, Image, Video

    for column, kind in data.features.items():
        if isinstance(kind, Image | Audio | Video):
            data = data.cast_column(column, type(kind)(decode=False))
    columns: dict[str, Sequence[Any]] = {column: _Column(data, column) for column in data.column_names}
    columns = named_columns(columns, data.features.to_dict())
    return Table(name, columns, base, Counted(name, len(data)), sha256(f"{digest} {len(data)}".encode()).hexdigest())
