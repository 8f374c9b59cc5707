"""Each way of keeping pictures and captions is read into the same rows."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmexp.data.table import table
from mmexp.errors import RequestError

CAPTIONS = ["a red square", "a green square", "a blue square, said “quietly”", "مربع 🟨"]
COLOURS = ["red", "lime", "blue", "yellow"]
COLUMNS = {"image": "image", "text": "caption", "label": None, "concept": None}


def png(colour: str) -> bytes:
    memory = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(memory, "PNG")
    return memory.getvalue()


def pictures(folder: Path) -> list[str]:
    (folder / "pictures").mkdir()
    for colour in COLOURS:
        (folder / "pictures" / f"{colour}.png").write_bytes(png(colour))
    return [f"pictures/{colour}.png" for colour in COLOURS]


def separated(folder: Path, suffix: str, by: str) -> str:
    quoted = ['"' + caption.replace('"', '""') + '"' for caption in CAPTIONS]
    rows = [by.join(("image", "caption")), *(by.join(row) for row in zip(pictures(folder), quoted, strict=True))]
    file = folder / f"table{suffix}"
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return str(file)


def json_lines(folder: Path) -> str:
    rows = [{"image": image, "caption": text} for image, text in zip(pictures(folder), CAPTIONS, strict=True)]
    file = folder / "table.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return str(file)


def parquet(folder: Path) -> str:
    pq.write_table(pa.table({"image": pictures(folder), "caption": CAPTIONS}), folder / "table.parquet")
    return str(folder / "table.parquet")


def parquet_with_bytes(folder: Path) -> str:
    cells = [{"bytes": png(colour), "path": None} for colour in COLOURS]
    pq.write_table(pa.table({"image": cells, "caption": CAPTIONS}), folder / "table.parquet")
    return str(folder / "table.parquet")


def folder_with_metadata(folder: Path) -> str:
    rows = [{"file_name": name, "caption": text} for name, text in zip(pictures(folder), CAPTIONS, strict=True)]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder)


def folder_with_captions_beside(folder: Path) -> str:
    for number, (colour, caption) in enumerate(zip(COLOURS, CAPTIONS, strict=True)):
        (folder / f"{number}.png").write_bytes(png(colour))
        (folder / f"{number}.txt").write_text(caption + "\n", encoding="utf-8")
    return str(folder)


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def tars(folder: Path) -> str:
    for shard in (0, 1):
        with tarfile.open(folder / f"shard-{shard}.tar", "w") as tar:
            for number in (2 * shard, 2 * shard + 1):
                add(tar, f"{number:04}.png", png(COLOURS[number]))
                add(tar, f"{number:04}.txt", CAPTIONS[number].encode())
    return str(folder / "shard-{0..1}.tar")


def braces(folder: Path) -> Path:
    (folder / "{0..1}").mkdir()
    return folder / "{0..1}"


WAYS = {
    "csv": lambda folder: separated(folder, ".csv", ","),
    "tsv": lambda folder: separated(folder, ".tsv", "\t"),
    "csv by tabs": lambda folder: separated(folder, ".csv", "\t"),
    "json lines": json_lines,
    "parquet": parquet,
    "parquet with bytes": parquet_with_bytes,
    "folder with metadata": folder_with_metadata,
    "csv in a folder with braces": lambda folder: separated(braces(folder), ".csv", ","),
    "folder with captions": folder_with_captions_beside,
    "tars": tars,
}


@pytest.mark.parametrize("way", WAYS)
def test_every_form_gives_the_same_rows(way, tmp_path):
    source = table(WAYS[way](tmp_path), COLUMNS, val_fraction=0)
    samples = source.splits["train"]
    assert [samples.read(row, "text") for row in range(4)] == CAPTIONS
    for row, colour in enumerate(COLOURS):
        expected = np.asarray(Image.new("RGB", (8, 8), colour))
        assert np.array_equal(np.asarray(samples.read(row, "image")), expected)
    assert source.modalities == ["image", "text"]


def test_a_folder_of_classes_has_pictures_and_labels_and_no_text(tmp_path):
    for name in ("red_thing", "blue_thing"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(png(name.split("_")[0]))
    source = table(str(tmp_path), {**COLUMNS, "label": "auto"}, val_fraction=0)
    samples = source.splits["train"]
    assert source.classes == ["blue_thing", "red_thing"]
    assert samples.labels.tolist() == [0, 1]
    assert source.modalities == ["image"] and "caption" not in samples.table.columns
    labels, text = source.notes
    assert labels.endswith("the sub-folders (data.columns.label)") and text.endswith("there is no text to read")


def test_a_data_set_of_hugging_face_saved_to_disk(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"picture": datasets.Image(), "title": datasets.Value("string")})
    rows = {"picture": [{"bytes": png(c), "path": None} for c in COLOURS], "title": CAPTIONS}
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "set" / "train.parquet")
    source = table(f"hf://{tmp_path}/set", {**COLUMNS, "image": "picture", "text": "title"}, val_fraction=0)
    assert [source.splits["train"].read(row, "text") for row in range(4)] == CAPTIONS
    assert source.splits["train"].read(1, "image").getpixel((0, 0)) == (0, 255, 0)


BROKEN = {
    "ragged.csv": ("image,caption\na.png,one\nb.png\n", "ragged.csv, line 3: it does not have the 2 fields"),
    "broken.jsonl": ('{"image": "a.png"}\n{"image": \n', "broken.jsonl, line 2: not JSON"),
    "list.jsonl": ("[1, 2]\n", "list.jsonl, line 1: a row is an object"),
    "empty.csv": ("image,caption\n", "has no rows"),
    "nothing.csv": ("", "has no rows"),
    "broken.parquet": ("no parquet", "cannot be read as Parquet"),
    "broken.tar": ("no tar", "cannot be read as an uncompressed tar"),
    "table.xlsx": ("what", "is no table that can be read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_table_is_told_with_file_and_line(name, tmp_path):
    content, message = BROKEN[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(RequestError, match=message.replace("(", r"\(")):
        table(str(tmp_path / name), COLUMNS)


def test_a_table_that_is_not_utf_8(tmp_path):
    (tmp_path / "latin.csv").write_bytes("image,caption\na.png,caf\xe9\n".encode("latin-1"))
    with pytest.raises(RequestError, match=r"latin.csv, line 2: it is not UTF-8"):
        table(str(tmp_path / "latin.csv"), COLUMNS)


def test_a_missing_path_hints_at_hugging_face():
    with pytest.raises(RequestError, match=r"there is no file or folder 'some/set'. .*hf://some/set"):
        table("some/set", COLUMNS)
