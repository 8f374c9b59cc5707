"""Folders of classes, and labels that are found without being asked for."""

import json
import re

import numpy as np
import pytest
from PIL import Image, features

from mmexp import build
from mmexp.compose import compose, resolved
from mmexp.data.table import table
from mmexp.errors import RequestError

COLUMNS = {"image": "image", "text": "caption", "label": "auto"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))


def picture(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (shade % 256, shade // 256, 0)).save(path)


def class_folder(folder, classes=("cat", "dog"), each=10, suffix="png"):
    for place, name in enumerate(classes):
        for number in range(each):
            picture(folder / name / f"{number}.{suffix}", 1 + place * each + number)
    return str(folder)


def test_noise_in_class_folders_cannot_be_told_apart(tmp_path):
    """Neither the class name nor anything else but pictures and labels is there to be read."""
    source = table(class_folder(tmp_path / "photos"), COLUMNS)
    assert source.modalities == ["image"] and source.classes == ["cat", "dog"]
    assert np.bincount(source.splits["val"].labels).tolist() == [1, 1]


def test_captions_beside_the_files_of_a_class_folder_are_read(tmp_path):
    path = class_folder(tmp_path / "photos")
    for file in (tmp_path / "photos").rglob("*.png"):
        file.with_suffix(".txt").write_text(f"number {file.stem}")
    source = table(path, COLUMNS)
    assert source.modalities == ["image", "text"] and source.classes == ["cat", "dog"]


def test_a_single_sub_folder_is_no_class(tmp_path):
    for number in range(4):
        picture(tmp_path / "images" / f"{number}.png", number)
        (tmp_path / "images" / f"{number}.txt").write_text(f"thing {number}")
    assert table(str(tmp_path), COLUMNS, val_fraction=0).classes == []


def test_hidden_folders_are_no_classes_and_files_of_other_kinds_are_counted(tmp_path, capsys):
    path = class_folder(tmp_path / "photos", each=3)
    for hidden in (
        ".ipynb_checkpoints/1-checkpoint.png",
        "__MACOSX/cat/._1.png",
        "cat/.ipynb_checkpoints/1.png",
        "cat/._1.png",
    ):
        picture(tmp_path / "photos" / hidden)
    (tmp_path / "photos" / "cat" / "1.heic").write_bytes(b"x")
    (tmp_path / "photos" / "dog" / "notes").write_bytes(b"x")
    (tmp_path / "photos" / "cat" / "up").symlink_to(tmp_path / "photos")
    source = table(path, COLUMNS, val_fraction=0)
    assert source.classes == ["cat", "dog"] and len(source.splits["train"]) == 6
    assert "2 files of kinds that are not read are left out: .heic 1, no suffix 1." in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["jfif", "ppm", "avif"])
def test_further_kinds_of_pictures_are_read(suffix, tmp_path):
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    samples = table(class_folder(tmp_path / "photos", each=2, suffix=suffix), COLUMNS, val_fraction=0).splits["train"]
    assert len(samples) == 4 and samples.read(0, "image").size == (4, 4)


def test_sub_folders_that_are_splits_are_refused(tmp_path):
    for part in ("train", "val"):
        class_folder(tmp_path / "photos" / part)
    with pytest.raises(RequestError, match=r"sub-folders train, val, which are splits.*Set data.train=.*/photos/train"):
        table(str(tmp_path / "photos"), COLUMNS)


def write_table(folder, texts, labels):
    for number in range(len(texts)):
        picture(folder / f"{number}.png", number)
    rows = zip(texts, labels, strict=True)
    lines = [json.dumps({"image": f"{i}.png", "caption": text, "label": label}) for i, (text, label) in enumerate(rows)]
    (folder / "t.jsonl").write_text("\n".join(lines))
    return str(folder / "t.jsonl")


def test_labels_of_a_table_are_found_where_an_objective_needs_them(tmp_path):
    path = write_table(tmp_path, [f"thing {i}" for i in range(20)], ["a", "b"] * 10)
    assert table(path, COLUMNS).classes == [] == table(path, COLUMNS, wanted=["number"]).classes
    source = table(path, COLUMNS, wanted=["labels"])
    assert source.classes == ["a", "b"] and source.notes[0].endswith("the column 'label' (data.columns.label)")
    assert table(path, {**COLUMNS, "label": None}, wanted=["labels"]).classes == []

    def classes(*overrides):
        config, _ = resolved(compose(["data=table", f"data.train={path}", *overrides]))
        return build.data_source(config).classes

    assert classes("objective=classify") == ["a", "b"] and classes("objective=contrastive") == []
    assert classes("objective=contrastive", "data.shots=2") == ["a", "b"]


def test_a_text_that_holds_the_name_of_the_label_is_reported(tmp_path):
    names = ["red_fox", "Owl"] * 10
    path = write_table(tmp_path, [f"A photo of a {name.replace('_', ' ').lower()}." for name in names], names)
    note = r"the text \(data.columns.text=caption\) holds the label's own name in 100% of the labelled rows"
    assert any(re.match(note, line) for line in table(path, COLUMNS, wanted=["labels"]).notes)
    own = write_table(tmp_path, [f"a photo of {i}, not an owlet" for i in range(20)], names)
    assert not any("own name" in line for line in table(own, COLUMNS, wanted=["labels"]).notes)
