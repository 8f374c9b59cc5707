"""Item identity: rows hold the same item where the content is the same, in all splits alike."""

import io
import json
import os
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from stand_ins import TinyImage, TinyText

from mmexp.data.chosen import ChosenSamples, items_of
from mmexp.data.emoji import emoji
from mmexp.data.emoji_moving import emoji_moving
from mmexp.data.items import bytes_item, stored_items, text_item
from mmexp.data.loading import Loading, PreparedSamples
from mmexp.data.sequence import Joined
from mmexp.data.stored import Slice
from mmexp.data.table import table
from mmexp.data.table_sequence import table_sequence
from mmexp.data.without import measured_without
from mmexp.types import modalities_of

COLUMNS = {"image": "image", "text": "caption"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(file, "PNG", compress_level=0)
    return file.getvalue()


def write(folder, name, rows):
    """Write pictures of the given shades and a table of their names and captions."""
    for picture, _ in rows:
        if picture and not (folder / picture).exists():
            (folder / picture).write_bytes(png(int(picture[0])))
    lines = [json.dumps({"image": picture, "caption": caption}) for picture, caption in rows]
    (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return str(folder / f"{name}.jsonl")


def groups(numbers) -> list[int]:
    """Return numbers by first appearance."""
    seen: dict[int, int] = {}
    return [seen.setdefault(int(one), len(seen)) if one >= 0 else -1 for one in numbers]


def test_pictures_are_the_same_by_content_and_texts_by_their_string(tmp_path):
    rows = [("1-a.png", "one"), ("1-b.png", "two"), ("2-a.png", "two"), ("1-a.png", "a photo"), ("3.png", "a photo")]
    source = table(write(tmp_path, "train", rows), COLUMNS, val_fraction=0)
    samples = source.splits["train"]
    assert groups(samples.items["image"]) == [0, 0, 1, 0, 2]
    assert groups(samples.items["text"]) == [0, 1, 1, 2, 2]
    # A caption that several pictures share does not make them one concept, nor does it make one of two captions.
    assert len(set(samples.concepts.tolist())) == 5 and not source.concepts_stated


def test_all_splits_number_items_alike(tmp_path):
    train = write(tmp_path, "train", [("1-a.png", "one"), ("2-a.png", "two")])
    test = write(tmp_path, "test", [("2-b.png", "three"), ("1-a.png", "two"), ("4.png", "four")])
    splits = table(train, COLUMNS, val=test, test=test).splits
    items = {name: samples.items for name, samples in splits.items()}
    assert items["test"]["image"].tolist()[:2] == items["train"]["image"].tolist()[::-1]
    assert items["test"]["image"][2] not in items["train"]["image"]
    assert items["test"]["text"][1] == items["train"]["text"][1]
    assert np.array_equal(items["val"]["image"], items["test"]["image"])


def test_tasks_in_sequence_number_items_alike(tmp_path):
    paths = [write(tmp_path, "a", [("1-a.png", "one"), ("2.png", "two")]), write(tmp_path, "b", [("1-b.png", "one")])]
    source = table_sequence(paths, COLUMNS, tests=paths)
    assert groups(source.splits["train"].items["image"]) == [0, 1, 0]
    assert groups(source.splits["train"].items["text"]) == [0, 1, 0]
    assert source.splits["train"].items["image"][2] == source.splits["b"].items["image"][0]


def test_what_a_row_lacks_is_no_item(tmp_path):
    path = write(tmp_path, "train", [("1.png", "one"), ("", "two"), ("1.png", ""), ("", "two")])
    samples = table(path, COLUMNS, val_fraction=0, missing="keep").splits["train"]
    assert groups(samples.items["image"]) == [0, -1, 0, -1]
    assert groups(samples.items["text"]) == [0, 1, -1, 1]


def test_each_of_several_captions_has_the_number_of_its_string(tmp_path):
    rows = [("1.png", ["a", "b"]), ("2.png", ["b"]), ("3.png", "a. b"), ("4.png", ["a", "b"])]
    samples = table(write(tmp_path, "train", rows), COLUMNS, val_fraction=0).splits["train"]
    a, b = samples.text_items(0)
    assert samples.text_items(1) == [b] == [samples.items["text"][1]] and a != b
    assert groups(samples.items["text"]) == [0, 1, 0, 0]
    chosen = ChosenSamples(samples, [1, 0])
    assert chosen.text_items(1) == [a, b] == Joined([samples]).text_items(0)
    assert chosen.items["text"].tolist() == samples.items["text"][[1, 0]].tolist()
    assert samples.chosen([3]).items["image"].tolist() == [samples.items["image"][3]]


@pytest.mark.parametrize("kind", ["tar", "parquet", "hugging_face"])
def test_pictures_inside_of_files(tmp_path, kind):
    shades = [1, 2, 1, 3]
    if kind == "tar":
        with tarfile.open(tmp_path / "t.tar", "w") as tar:
            for row, shade in enumerate(shades):
                for suffix, content in (("png", png(shade)), ("txt", b"words %d" % row)):
                    member = tarfile.TarInfo(f"{row}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    else:
        cells = [png(shade) if kind == "parquet" else {"bytes": png(shade), "path": None} for shade in shades]
        columns = {"image": cells, "caption": [f"words {row}" for row in range(4)]}
        pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    path = str(tmp_path / ("t.tar" if kind == "tar" else "t.parquet"))
    samples = table(path, COLUMNS, val_fraction=0).splits["train"]
    assert groups(samples.items["image"]) == [0, 1, 0, 2]
    assert groups(samples.items["text"]) == [0, 1, 2, 3]


def test_files_of_equal_size_are_compared_to_their_last_byte_and_others_are_not_read(tmp_path, monkeypatch):
    long = bytes(10_000)
    contents = {"a": long, "b": long, "c": long[:-1] + b"1", "d": b"1" + long[1:], "e": b"alone"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    os.link(tmp_path / "e", tmp_path / "f")
    (tmp_path / "g").symlink_to(tmp_path / "e")
    (tmp_path / "shard").write_bytes(b"..." + long)
    stored = [tmp_path / name for name in "abcdefg"]
    whole = [*stored, long, Slice(tmp_path / "shard", 3, len(long)), None]
    assert stored_items(whole).tolist() == [0, 0, 1, 2, 3, 3, 3, 0, 0, -1]
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda file: 1 / 0)
    monkeypatch.setattr("pathlib.Path.open", lambda *_: 1 / 0)
    assert stored_items([tmp_path / "e", tmp_path / "a", tmp_path / "f"]).tolist() == [0, 1, 0]


def test_videos_in_folders_are_the_same_by_their_frames(tmp_path):
    for folder, shades in {"a": (1, 2), "b": (1, 2), "c": (1, 3)}.items():
        (tmp_path / folder).mkdir()
        for place, shade in enumerate(shades):
            (tmp_path / folder / f"{place}.png").write_bytes(png(shade))
    assert stored_items([tmp_path / "a", tmp_path / "b", tmp_path / "c"]).tolist() == [0, 0, 1]


def test_numbers_are_int64_and_not_negative():
    numbers = [text_item(f"{i}") for i in range(1000)] + [bytes_item(b"%d" % i) for i in range(1000)]
    assert min(numbers) >= 0 and max(numbers) < 2**63 and text_item("é") == bytes_item("é".encode())
    assert len(set(numbers)) == 1000


def test_bundled_data_state_concepts_and_number_items():
    source = emoji(styles=["noto", "fluent_flat"])
    train, crossed = source.splits["train"], source.splits["test_cross_style"]
    assert source.concepts_stated
    by_concept = {(c, t) for c, t in zip(train.concepts.tolist(), train.items["text"].tolist(), strict=True)}
    assert len(by_concept) == len(set(train.concepts.tolist()))
    common = np.isin(crossed.items["text"], train.items["text"])
    assert (common == np.isin(crossed.concepts, train.concepts)).all() and common.any()
    moving = emoji_moving(styles=["noto"]).splits["val"]
    assert set(moving.items) == {"image", "text", "video"}


def test_batches_hold_items_of_what_is_read(tmp_path):
    source = emoji(styles=["noto"])
    encoders = {"image": TinyImage(), "text": TinyText()}
    samples = source.splits["val"]
    batch = PreparedSamples(samples, encoders, Loading()).__getitems__([(3, 0), (1, 0)])
    assert {name: own.tolist() for name, own in batch["items"].items()} == {
        name: own[[3, 1]].tolist() for name, own in samples.items.items()
    }
    assert modalities_of(batch) == ["image", "text"]
    without = measured_without(source, ["text"], ["image", "text"]).splits["test_without_text"]
    batch = PreparedSamples(without, encoders, Loading()).__getitems__([(0, -1), (1, -1)])
    assert batch["items"]["text"].tolist() == [-1, -1] and (batch["items"]["image"] >= 0).all()


def test_samples_without_items_hold_another_one_in_every_row():
    class Plain:
        def __init__(self):
            self.present = {"text": np.array([True, False, True])}

        def __len__(self):
            return 3

    found = items_of(Plain(), ["image", "text"])
    assert found["image"].tolist() == [0, 1, 2] and found["text"].tolist() == [0, -1, 2]
