"""Tars as other tools write them: every sample is a row, and its files are what is read."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from mmexp.data.table import table
from mmexp.errors import RequestError

COLUMNS = {"image": "image", "text": "caption"}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))


def png(level: int) -> bytes:
    memory = io.BytesIO()
    Image.new("L", (4, 4), level).save(memory, "PNG")
    return memory.getvalue()


def tar_of(folder, *members: tuple[str, bytes]) -> str:
    with tarfile.open(folder / "t.tar", "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return str(folder / "t.tar")


def rows_of(path: str, **more) -> list[tuple[int, str]]:
    samples = table(path, COLUMNS, val_fraction=0, **more).splits["train"]
    levels = [int(np.asarray(samples.read(row, "image"))[0, 0, 0]) for row in range(len(samples))]
    return [(level, samples.read(row, "text")) for row, level in enumerate(levels)]


@pytest.mark.parametrize("order", ["json first", "json last"])
def test_files_stand_before_keys_of_the_json_that_mean_the_same(tmp_path, capsys, order):
    told = json.dumps(
        {"image": "elsewhere.png", "png": 1, "caption": "from json", "label": 7, "licence": "free"}
    ).encode()
    members = [("0.json", told), ("0.png", png(9)), ("0.txt", b"from txt"), ("0.cls", b"cat")]
    path = tar_of(tmp_path, *(members if order == "json first" else reversed(members)))
    source = table(path, {**COLUMNS, "label": "label", "concept": "licence"}, val_fraction=0)
    assert source.classes == ["cat"]
    assert source.splits["train"].cell(0, "concept") == "free"
    assert rows_of(path) == [(9, "from txt")]
    assert "not the keys of the same name in its .json (caption, image, label, png)" in capsys.readouterr().out


def test_a_key_that_comes_again_is_another_row(tmp_path, capsys):
    members = [
        (f"{i % 3}.{s}", png(i) if s == "png" else f"text {i}".encode()) for i in range(6) for s in ("png", "txt")
    ]
    assert rows_of(tar_of(tmp_path, *members)) == [(i, f"text {i}") for i in range(6)]
    assert (
        "sample 0 (number 2 of this key): the key comes again, as a row of its own; so do 2 more"
        in capsys.readouterr().out
    )


def test_files_of_a_sample_need_not_stand_together(tmp_path):
    pictures = [(f"{i}.png", png(i)) for i in range(3)]
    assert rows_of(tar_of(tmp_path, *pictures, *((f"{i}.txt", b"%d" % i) for i in range(3)))) == [
        (i, str(i)) for i in range(3)
    ]


def test_repeated_pictures_before_their_texts_are_refused_and_not_mixed_up(tmp_path):
    path = tar_of(tmp_path, ("a.png", png(1)), ("a.png", png(2)), ("a.txt", b"1"), ("a.txt", b"2"))
    with pytest.raises(RequestError, match="sample a: column 'caption' is empty"):
        rows_of(path)


def test_what_macos_adds_is_no_sample(tmp_path, capsys):
    fork = b"\0\5\x16\7" + bytes(80)
    members = [
        ("./._0.png", fork),
        ("./0.png", png(5)),
        ("./._0.txt", fork),
        ("./0.txt", b"five"),
        ("__MACOSX/1.png", fork),
    ]
    path = tar_of(tmp_path, *members, (".hidden/2.png", png(2)))
    assert rows_of(path) == [(5, "five")]
    assert "4 hidden files" in capsys.readouterr().out


def test_each_line_of_a_text_is_a_caption_where_that_is_asked_for(tmp_path):
    path = tar_of(
        tmp_path, ("0.png", png(0)), ("0.txt", b"first\n\n second \n"), ("1.png", png(1)), ("1.txt", b"one\n")
    )
    samples = table(path, COLUMNS, val_fraction=0, caption_lines="each").splits["train"]
    assert samples.texts(0) == ["first", "second"] and samples.texts(1) == ["one"]
    assert {samples.read(0, "text", np.random.default_rng(seed)) for seed in range(9)} == {"first", "second"}
    assert rows_of(path)[0] == (0, "first\n\n second")
    for name in "01":
        (tmp_path / f"{name}.png").write_bytes(png(int(name)))
        (tmp_path / f"{name}.txt").write_text("first\nsecond\n")
    folder = table(str(tmp_path), COLUMNS, val_fraction=0, caption_lines="each").splits["train"]
    assert folder.texts(0) == ["first", "second"]
