"""Which rows are held out where there is no data.val: by label, in whole groups, and never more than was asked for."""

import json

import numpy as np
import pytest
from PIL import Image

from mmexp.data.splitting import allotted, groups_of, held_out, merged, strata_of
from mmexp.data.table import table
from mmexp.errors import RequestError

COLUMNS = {"image": "image", "text": "caption"}
LABELLED = {**COLUMNS, "label": "label"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))


def write(folder, rows):
    """Write rows of a picture's number, a caption and further cells; equal numbers are equal pictures."""
    for number in {row["image"] for row in rows}:
        Image.new("RGB", (4, 4), (number % 256, number // 256, 0)).save(folder / f"{number}.png")
    lines = [json.dumps({**row, "image": f"{row['image']}.png"}) for row in rows]
    (folder / "t.jsonl").write_text("\n".join(lines))
    return str(folder / "t.jsonl")


def split(folder, rows, columns=COLUMNS, **more):
    source = table(write(folder, rows), columns, **more)
    train, val = source.splits["train"], source.splits["val"]
    assert len(train) + len(val) == len(rows)
    assert not set(train.items["image"].tolist()) & set(val.items["image"].tolist())
    note = next(line for line in source.notes if line.startswith("val is"))
    return train, val, note


def test_captions_that_repeat_by_class_leave_every_class_in_train(tmp_path):
    names = ["ant", "bee", "cow", "dog"]
    rows = [{"image": i, "caption": f"a photo of a {names[i % 4]}", "label": names[i % 4]} for i in range(80)]
    train, val, note = split(tmp_path, rows, LABELLED)
    assert np.bincount(train.labels).tolist() == [18] * 4 and np.bincount(val.labels).tolist() == [2] * 4
    assert note == "val is 8 of the 80 rows of train: stratified by label"


def test_questions_that_repeat_over_pictures(tmp_path):
    """Sixty pictures with the same two questions each, as visual question answering has them."""
    asked = ("what colour is it?", "is it round?")
    rows = [
        {"image": i, "caption": question, "label": ("red", "blue")[i % 2] if place == 0 else ("yes", "no")[i % 3 > 0]}
        for i in range(60)
        for place, question in enumerate(asked)
    ]
    train, val, note = split(tmp_path, rows, LABELLED)
    assert (len(train), len(val)) == (108, 12) and len(set(val.items["image"].tolist())) == 6
    assert (np.abs(np.bincount(val.labels, minlength=4) - np.bincount(train.labels) / 9) <= 1.5).all()
    assert note == "val is 12 of the 120 rows of train: stratified by label, grouped by image"


def test_the_same_picture_of_several_rows_is_on_one_side(tmp_path):
    rows = [{"image": i // 3, "caption": f"{i}", "label": "ab"[i // 3 % 2]} for i in range(60)]
    train, val, _ = split(tmp_path, rows, LABELLED)
    assert len(val) == 6 and set(val.labels.tolist()) == {0, 1} and len(train) == 54


def test_a_generic_caption_joins_nothing_and_own_captions_do(tmp_path):
    generic = [{"image": i, "caption": text} for i in range(64) for text in (f"thing {i}", "a photo")]
    _, val, note = split(tmp_path, generic)
    assert len(val) == 12 and note == "val is 12 of the 128 rows of train: grouped by image and text, 1 text is in both"
    pairs = [{"image": i, "caption": f"thing {i // 2}"} for i in range(60)]
    train, val, note = split(tmp_path, pairs)
    assert len(val) == 6 and not set(train.items["text"].tolist()) & set(val.items["text"].tolist())
    assert note == "val is 6 of the 60 rows of train: grouped by image and text"


def test_rows_of_one_stated_concept_are_on_one_side(tmp_path):
    rows = [{"image": i, "caption": f"{i}", "what": f"{i // 4}", "label": "ab"[i % 2]} for i in range(80)]
    train, val, note = split(tmp_path, rows, {**COLUMNS, "concept": "what"})
    assert len(val) == 8 and not set(train.concepts.tolist()) & set(val.concepts.tolist())
    assert note == "val is 8 of the 80 rows of train: grouped by concept"
    train, val, note = split(tmp_path, rows, {**LABELLED, "concept": "what"})
    assert not set(train.concepts.tolist()) & set(val.concepts.tolist())
    assert np.bincount(val.labels).tolist() == [4, 4] and "stratified by label, grouped by concept" in note
    # A concept column that says no more than the label does not put a class on one side.
    train, val, _ = split(tmp_path, rows, {**LABELLED, "concept": "label"})
    assert np.bincount(val.labels).tolist() == [4, 4]


def test_numbers_are_stratified_by_quantiles_and_empty_ones_by_that(tmp_path):
    rows = [{"image": i, "caption": "x", "size": i**2 if i % 2 else None} for i in range(200)]
    _, val, note = split(tmp_path, rows, {**COLUMNS, "target": "size"})
    known = val.number[~np.isnan(val.number)]
    assert len(val) == 20 and len(known) == 10 and "stratified by target" in note
    assert np.histogram(known, np.quantile(np.arange(1, 200, 2) ** 2, np.linspace(0, 1, 6)))[0].tolist() == [2] * 5


def test_several_labels_a_row_are_stratified_by_the_rarest(tmp_path):
    rows = [{"image": i, "caption": "x", "label": ["all", *(["rare"] if i < 10 else [])]} for i in range(100)]
    _, val, _ = split(tmp_path, rows, LABELLED)
    assert val.targets.sum(0).tolist() == [10, 1]


def test_few_labelled_rows_leave_some_to_measure(tmp_path):
    rows = [{"image": i, "caption": f"{i}", "label": "ab"[i % 2] if i < 8 else ""} for i in range(64)]
    train, val, _ = split(tmp_path, rows, LABELLED)
    assert len(val) == 6 and (val.labels >= 0).sum() == 1 and (train.labels >= 0).sum() == 7


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ([{"image": 0, "caption": f"{i}", "label": "ab"[i % 2]} for i in range(20)], LABELLED),
        ([{"image": i // 10, "caption": f"{i}"} for i in range(20)], COLUMNS),
        ([{"image": i, "caption": f"{i}", "label": f"{i}"} for i in range(20)], LABELLED),
        ([{"image": 0, "caption": "one row"}], COLUMNS),
    ],
    ids=["one_picture", "two_pictures", "one_row_a_class", "one_row"],
)
def test_what_cannot_be_split_is_refused_with_the_way_out(rows, columns, tmp_path):
    with pytest.raises(RequestError, match=r"of train can be held out.* Set data.val=PATH, or data.val_fraction=0"):
        split(tmp_path, rows, columns)
    assert set(table(write(tmp_path, rows), columns, val_fraction=0).splits) == {"train"}


def test_a_class_without_a_labelled_row_to_spare(tmp_path):
    rows = [{"image": i, "caption": f"{i}", "label": "a" if i == 0 else ""} for i in range(30)]
    with pytest.raises(RequestError, match=r"no row with a label or number can be held out of the 30 rows"):
        split(tmp_path, rows, LABELLED)


@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.25, 0.5])
def test_against_random_groups_and_labels(fraction):
    """Whole groups, the wanted share at most, every class left in train, and each class's share close to that."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        groups = rng.integers(0, 200, 400)
        labels = rng.integers(-1, 5, 400)
        held = held_out(groups, fraction, labels)
        assert not set(groups[held]) & set(groups[~held])
        wanted = round(fraction * 400)
        assert wanted - 3 <= held.sum() <= wanted
        for label in range(5):
            share = (labels[held] == label).sum() / (labels == label).sum()
            assert abs(share - fraction) < 0.05
        assert np.array_equal(held, held_out(groups, fraction, labels))


def test_a_group_larger_than_the_share_is_taken_only_where_all_are():
    groups = np.repeat([0, 1, 2], [60, 30, 10])
    assert np.flatnonzero(held_out(groups, 0.1)).tolist() == list(range(90, 100))
    assert held_out(np.repeat([0, 1, 2], [50, 30, 20]), 0.1).sum() == 20
    with pytest.raises(RequestError, match=r"3 groups of rows that belong together, the smallest of 33 rows, or"):
        held_out(np.repeat([0, 1, 2], [33, 33, 33]), 0.1, np.repeat([0, 1, 2], [33, 33, 33]))


def test_groups_are_joined_by_any_shared_item_and_merged_as_far_as_there_is_room():
    image, audio = np.array([0, 1, 1, 2, -1, 3]), np.array([5, 6, 7, 7, -1, -1])
    assert groups_of({"image": image, "audio": audio}, 6).tolist() == [0, 1, 1, 1, 2, 3]
    assert groups_of({}, 3).tolist() == [0, 1, 2]
    text = np.array([9, 9, 9, 8, 8, -1])
    assert merged(np.arange(6), text, 2).tolist() == [0, 1, 2, 3, 3, 4]
    assert merged(np.arange(6), text, 3).tolist() == [0, 0, 0, 1, 1, 2]
    assert merged(np.array([0, 1, 1, 1, 2, 3]), text, 3).tolist() == [0, 1, 1, 1, 2, 3]
    several = np.array([7, 8, 8, 9, 9])
    assert merged(np.arange(4), several, 3, np.array([0, 0, 1, 1, 3])).tolist() == [0, 0, 1, 0]


def test_strata_share_the_rows_by_largest_remainder():
    labels = np.repeat([-1, 0, 1, 2], [5, 60, 30, 5])
    assert allotted(labels, 10) == {-1: 1, 0: 6, 1: 3, 2: 0}
    assert allotted(np.array([0, 1, 2, 3]), 2) == {0: 0, 1: 0, 2: 0, 3: 0}
    assert strata_of(np.full(3, -1), None, None) is None and strata_of(np.full(3, -1), None, np.full(3, np.nan)) is None
    targets = np.array([[1, 0], [1, 1], [0, 0], [np.nan, np.nan]])
    assert strata_of(np.full(4, -1), targets, None).tolist() == [0, 1, 2, -1]
