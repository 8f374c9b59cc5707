"""What a user's own table becomes, and what is said of wrong rows, columns and labels."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmexp.data import decoding
from mmexp.data.pictures import read_picture
from mmexp.data.supervision import supervision_of
from mmexp.data.table import table
from mmexp.errors import RequestError

COLUMNS = {"image": "image", "text": "caption", "label": None, "concept": None}
CREATED = {f"{name}.png" for name in (*range(100), "a", "b", "c")}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))


def write(folder: Path, rows: list[dict], name: str = "train") -> str:
    for row in rows:
        picture = folder / str(row.get("image"))
        if row.get("image") in CREATED and not picture.exists():
            Image.new("RGB", (4, 4), (255, *divmod(len(list(folder.iterdir())), 256))).save(picture)
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder / f"{name}.jsonl")


def rows(count: int, **more) -> list[dict]:
    return [{"image": f"{i}.png", "caption": f"thing {i}", **more} for i in range(count)]


def bad_rows(folder: Path) -> list[dict]:
    (folder / "cut.png").write_bytes((Path(folder) / "whole.png").read_bytes()[:60])
    (folder / "nothing.png").write_bytes(b"")
    wrong = ["cut.png", "nothing.png", "missing.png", "", "https://example.org/a.png"]
    return [{"image": name, "caption": "bad"} for name in wrong] + [{"image": "whole.png", "caption": " "}]


def mixed(folder: Path) -> str:
    Image.new("RGB", (64, 64), "red").save(folder / "whole.png")
    return write(folder, [*rows(3), *bad_rows(folder)])


def test_bad_rows_are_left_out_and_counted(tmp_path, capsys):
    source = table(mixed(tmp_path), COLUMNS, on_error="skip", val_fraction=0)
    assert len(source.splits["train"]) == 3
    assert source.skipped == {"train": 6}
    assert "6 of 9 rows left out. First: " in capsys.readouterr().out


def test_the_first_bad_row_is_named_by_file_and_line(tmp_path):
    with pytest.raises(RequestError, match=r"train.jsonl, line 4: the picture cannot be decoded.* 5 more rows"):
        table(mixed(tmp_path), COLUMNS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.png", "there is no picture '.*missing.png'"),
        ("", "no picture"),
        ("https://example.org/a.png", "is an address; nothing is downloaded"),
    ],
)
def test_each_wrong_picture_is_told_in_words(name, message, tmp_path):
    with pytest.raises(RequestError, match=message):
        table(write(tmp_path, [*rows(2), {"image": name, "caption": "x"}]), COLUMNS)


def test_a_table_of_bad_rows_alone_is_refused(tmp_path):
    with pytest.raises(RequestError, match="has no row that can be read"):
        table(write(tmp_path, [{"image": "missing.png", "caption": "x"}]), COLUMNS, on_error="skip")


def test_pictures_are_checked_once_until_one_changes(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(decoding.Decoding, "__call__", lambda self, cell, *about: read.append(cell))
    path = write(tmp_path, rows(3))
    table(path, COLUMNS)
    table(path, COLUMNS)
    assert len(read) == 3
    Image.new("RGB", (5, 5)).save(tmp_path / "0.png")
    table(path, COLUMNS)
    assert len(read) == 6


def test_what_was_checked_is_of_the_files_that_cells_name_and_of_no_others(tmp_path, monkeypatch):
    home, folder, read = tmp_path / "home", tmp_path / "data", []
    for place in (home, folder):
        place.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))
    Image.new("RGB", (4, 4)).save(home / "a.png")
    (folder / "t.csv").write_text("image,caption\n~/a.png,one\n,two\n")
    monkeypatch.setattr(decoding.Decoding, "__call__", lambda self, cell, *about: read.append(cell))

    def times() -> int:
        read.clear()
        table(str(folder / "t.csv"), COLUMNS, missing="keep", val_fraction=0)
        return len(read)

    assert times() == 2
    # An empty cell names no file, and not the folder of the table.
    (folder / "beside.txt").write_text("more")
    assert times() == 0
    Image.new("RGB", (5, 5)).save(home / "a.png")
    assert times() == 2


def test_a_wrong_column_gets_the_nearest_name(tmp_path):
    with pytest.raises(RequestError, match=r"no column 'captoin' \(data.columns.text\). Did you mean 'caption'"):
        table(write(tmp_path, rows(2)), {**COLUMNS, "text": "captoin"})


def test_a_wrong_kind_of_column(tmp_path):
    with pytest.raises(
        RequestError, match=r"'data.columns.txet' is not a key. Did you mean 'text'\? A further modality"
    ):
        table(write(tmp_path, rows(2)), {**COLUMNS, "txet": "caption"})


def test_labels_are_numbered_by_train_and_may_be_absent(tmp_path):
    train = write(tmp_path, [{**row, "kind": kind} for row, kind in zip(rows(3), ["10", "9", ""], strict=True)])
    test = write(tmp_path, rows(1, kind="10"), "test")
    source = table(train, {**COLUMNS, "label": "kind"}, val=test, test=test)
    assert source.classes == ["9", "10"]
    assert source.splits["train"].labels.tolist() == [1, 0, -1]
    assert source.splits["test"].labels.tolist() == [1]


def test_a_label_that_train_lacks(tmp_path):
    train, test = write(tmp_path, rows(2, kind="cat")), write(tmp_path, rows(2, kind="cats"), "test")
    with pytest.raises(RequestError, match=r"test.jsonl, line 1: no row of train has the label 'cats'.*'cat'"):
        table(train, {**COLUMNS, "label": "kind"}, test=test)


def test_concepts_are_those_that_a_column_states(tmp_path):
    path = write(
        tmp_path, [{**row, "what": what} for row, what in zip(rows(5), ["a", "b", "a", None, " "], strict=True)]
    )
    source = table(path, {**COLUMNS, "concept": "what"}, val_fraction=0)
    # Where the cell is empty, a row is a concept of its own.
    assert source.splits["train"].concepts.tolist() == [0, 1, 0, 2, 3] and source.concepts_stated
    assert table(path, COLUMNS, val_fraction=0).splits["train"].concepts.tolist() == [0, 1, 2, 3, 4]


def test_validation_is_held_out_by_concept(tmp_path):
    path = write(tmp_path, [{**row, "what": f"{i // 3}"} for i, row in enumerate(rows(30))])
    source = table(path, {**COLUMNS, "concept": "what"}, val_fraction=0.2)
    train, val = (set(source.splits[name].concepts.tolist()) for name in ("train", "val"))
    assert len(val) == 2 and len(train) == 8 and not train & val
    assert len(source.splits["val"]) == 6


def test_pictures_alone_and_text_alone(tmp_path):
    path = write(tmp_path, rows(3))
    assert table(path, {**COLUMNS, "text": None}).modalities == ["image"]
    assert table(path, {**COLUMNS, "image": None}).modalities == ["text"]


def test_a_picture_is_turned_as_its_exif_says(tmp_path):
    picture, exif = Image.new("RGB", (4, 2), "red"), Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    assert read_picture(tmp_path / "turned.jpg").size == (2, 4)


def pixel(file: Path) -> tuple:
    picture = read_picture(file)
    assert picture.mode == "RGB"
    return picture.getpixel((0, 0))


def test_transparent_is_white(tmp_path):
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(tmp_path / "rgba.png")
    Image.new("LA", (2, 2), (0, 0)).save(tmp_path / "la.png")
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([0, 0, 0])
    palette.save(tmp_path / "p.png", transparency=0)
    assert {pixel(tmp_path / f"{name}.png") for name in ("rgba", "la", "p")} == {(255, 255, 255)}


def test_deep_grey_and_cmyk(tmp_path):
    Image.fromarray(np.full((2, 2), 257 * 100, dtype=np.uint16)).save(tmp_path / "deep.png")
    Image.new("CMYK", (2, 2), (0, 0, 0, 0)).save(tmp_path / "cmyk.jpg")
    assert pixel(tmp_path / "deep.png") == (100, 100, 100)
    assert pixel(tmp_path / "cmyk.jpg") == (255, 255, 255)


def test_of_several_captions_training_draws_one_and_evaluation_joins_all(tmp_path):
    captions = ["one", "two", "three"]
    path = write(tmp_path, [{"image": "0.png", "caption": captions}, *rows(2)[1:]])
    samples = table(path, COLUMNS, val_fraction=0).splits["train"]
    assert samples.read(0, "text") == "one. two. three"
    assert {samples.read(0, "text", np.random.default_rng(seed)) for seed in range(20)} == set(captions)
    assert samples.read(1, "text", np.random.default_rng(0)) == "thing 1"


def test_each_of_several_captions_is_a_reference(tmp_path):
    path = write(tmp_path, [{"image": "0.png", "caption": ["a", "b"]}, {"image": "1.png", "caption": ["c"]}])
    train = table(path, COLUMNS, val_fraction=0).splits["train"]
    assert [train.texts(row) for row in (0, 1)] == [["a", "b"], ["c"]]


def test_a_row_with_no_caption_in_its_list_is_wrong(tmp_path):
    with pytest.raises(RequestError, match="line 1: column 'caption' is empty"):
        table(write(tmp_path, [{"image": "0.png", "caption": []}, *rows(2)]), COLUMNS)


@pytest.mark.parametrize("cells", [["a|b", "b", "", " | "], [["a", "b"], ["b"], None, []]], ids=["separated", "lists"])
def test_several_labels_a_row(cells, tmp_path):
    path = write(tmp_path, [{**row, "kind": cell} for row, cell in zip(rows(4), cells, strict=True)])
    separator = "|" if cells[0] == "a|b" else None
    source = table(path, {**COLUMNS, "label": "kind"}, val_fraction=0, label_separator=separator)
    samples = source.splits["train"]
    assert source.classes == ["a", "b"]
    np.testing.assert_array_equal(samples.targets, np.array([[1, 1], [0, 1], [np.nan, np.nan], [0, 0]]))
    assert supervision_of(source).kinds == {"targets"}


def test_several_labels_that_train_lacks(tmp_path):
    train, test = write(tmp_path, rows(2, kind="cat|dog")), write(tmp_path, rows(2, kind="dog|cow"), "test")
    with pytest.raises(RequestError, match=r"test.jsonl, line 1: no row of train has the label 'cow'"):
        table(train, {**COLUMNS, "label": "kind"}, test=test, label_separator="|")


def test_numbers_and_their_statistics_are_those_of_train(tmp_path):
    numbers = ["1", "3.5", "", "6"] * 5
    path = write(tmp_path, [{**row, "size": n} for row, n in zip(rows(20), numbers, strict=True)])
    source = table(path, {**COLUMNS, "target": "size"}, val_fraction=0.3)
    train, val = source.splits["train"].number, source.splits["val"].number
    assert (
        sorted(np.concatenate([train, val])[~np.isnan(np.concatenate([train, val]))]) == [1] * 5 + [3.5] * 5 + [6] * 5
    )
    found = supervision_of(source)
    assert found.kinds == {"number"}
    known = train[~np.isnan(train)]
    assert (found.mean, found.deviation) == pytest.approx((known.mean(), known.std()))


@pytest.mark.parametrize("cell", ["big", [1], "inf"])
def test_what_is_no_number_is_named_by_its_row(cell, tmp_path):
    path = write(tmp_path, [{**row, "size": size} for row, size in zip(rows(2), ["1", cell], strict=True)])
    with pytest.raises(RequestError, match=r"train.jsonl, line 2: the target '.*' is not a number"):
        table(path, {**COLUMNS, "target": "size"})


def test_few_labels_keep_so_many_of_each_class(tmp_path):
    path = write(tmp_path, [{**row, "kind": "ab"[i % 2]} for i, row in enumerate(rows(20))])
    source = table(path, {**COLUMNS, "label": "kind"}, labels_per_class=2, val_fraction=0.2)
    assert np.unique(source.splits["train"].labels, return_counts=True)[1].tolist() == [12, 2, 2]
    assert (source.splits["val"].labels >= 0).all()
    assert supervision_of(source).counts == [2, 2]
