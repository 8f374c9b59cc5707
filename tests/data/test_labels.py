"""Labels as people keep them: missing, padded, in lists, multi-hot, as numbers with names beside."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmexp.data.emoji import emoji
from mmexp.data.loading import Loading
from mmexp.data.table import table
from mmexp.errors import RequestError

COLUMNS = {"text": "caption", "label": "label"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))


def parquet(folder, labels, name="t", metadata=None):
    columns = pa.table({"caption": [f"{name} {row}" for row in range(len(labels))], "label": labels})
    pq.write_table(columns.replace_schema_metadata(metadata) if metadata else columns, folder / f"{name}.parquet")
    return str(folder / f"{name}.parquet")


def read(path, **more):
    source = table(path, COLUMNS, **{"val_fraction": 0, **more})
    return source, source.splits["train"]


def test_null_nan_and_blank_labels_are_none(tmp_path):
    source, samples = read(parquet(tmp_path, pa.array([1.0, float("nan"), None, 2.0])))
    assert source.classes == ["1", "2"] and samples.labels.tolist() == [0, -1, -1, 1]
    lines = ['{"caption": "a", "label": "cat"}', '{"caption": "b", "label": NaN}', '{"caption": "c", "label": " "}']
    (tmp_path / "t.jsonl").write_text("\n".join([*lines, '{"caption": "d", "label": "cat "}', '{"caption": "e"}']))
    source, samples = read(str(tmp_path / "t.jsonl"))
    assert source.classes == ["cat"] and samples.labels.tolist() == [0, -1, -1, 0, -1]
    (tmp_path / "t.csv").write_text("caption,label\na, cat\nb,\nc,  \nd,cat\n")
    source, samples = read(str(tmp_path / "t.csv"))
    assert source.classes == ["cat"] and samples.labels.tolist() == [0, -1, -1, 0]


def test_nulls_and_blanks_in_lists_are_no_labels(tmp_path):
    source, samples = read(parquet(tmp_path, [["a", None], [" b ", "a"], [], None, ["", "b"]]))
    assert source.classes == ["a", "b"]
    np.testing.assert_array_equal(samples.targets, [[1, 0], [1, 1], [0, 0], [np.nan, np.nan], [0, 1]])


def test_one_hot_lists_are_one_label_a_row_and_multi_hot_ones_several(tmp_path):
    source, samples = read(parquet(tmp_path, [[0, 1, 0], [1, 0, 0], None, [0, 0, 1]]))
    assert source.classes == ["0", "1", "2"] and samples.targets is None and samples.labels.tolist() == [1, 0, -1, 2]
    source, samples = read(parquet(tmp_path, [[True, True, False], [False, False, True]], "b"))
    assert source.classes == ["0", "1", "2"] and samples.targets.tolist() == [[1, 1, 0], [0, 0, 1]]
    # Lists of other lengths or numbers are class numbers.
    source, samples = read(parquet(tmp_path, [[0, 1], [1], [0]], "c"))
    assert source.classes == ["0", "1"] and samples.targets.tolist() == [[1, 1], [0, 1], [1, 0]]
    source, _ = read(parquet(tmp_path, [[0, 2], [1, 2]], "d"))
    assert source.classes == ["0", "1", "2"]


def test_names_of_class_labels_are_kept(tmp_path):
    feature = {"names": ["cat", "dog", "owl"], "_type": "ClassLabel"}
    for number, (stored, labels) in enumerate(
        [(feature, [0, 2, -1, None]), ({"feature": feature, "_type": "List"}, [[0, 2], []])]
    ):
        metadata = {"huggingface": json.dumps({"info": {"features": {"label": stored}}})}
        source, samples = read(parquet(tmp_path, labels, f"t{number}", metadata))
        assert source.classes == ["cat", "owl"]
        assert (
            samples.labels.tolist() == [0, 1, -1, -1] if number == 0 else samples.targets.tolist() == [[1, 1], [0, 0]]
        )


def test_names_of_class_labels_of_data_sets_are_kept(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"caption": datasets.Value("string"), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    own = datasets.Dataset.from_dict({"caption": ["a", "b", "c"], "label": [1, 0, 1]}, features=features)
    (tmp_path / "set").mkdir()
    own.to_parquet(tmp_path / "set" / "train.parquet")
    for path in (f"hf://{tmp_path}/set", str(tmp_path / "set" / "train.parquet")):
        source, samples = read(path)
        assert source.classes == ["cat", "dog"] and samples.labels.tolist() == [1, 0, 1]


def test_targets_that_are_nan_or_blank_are_none(tmp_path):
    path = parquet(tmp_path, ["1.5", " ", "2"], "n")
    number = table(path, {"text": "caption", "target": "label"}, val_fraction=0).splits["train"].number
    np.testing.assert_array_equal(number, np.array([1.5, np.nan, 2], dtype=np.float32))


def test_a_batch_has_at_most_all_rows_and_as_many_for_each_process():
    loading = Loading(batch_size=128)
    assert [loading.of(rows).batch_size for rows in (1, 120, 128, 500)] == [1, 120, 128, 128]
    assert loading.of(121, 2).batch_size == 120 and loading.of(500, 3) is loading
    with pytest.raises(RequestError, match="1 rows to train on are fewer than the 2 processes"):
        loading.of(1, 2)


def test_fewer_rows_than_a_batch_are_trained_on_with_a_note(mmexp, tmp_path):
    (tmp_path / "t.jsonl").write_text(
        "\n".join(json.dumps({"caption": f"{i}", "label": "ab"[i % 2]}) for i in range(30))
    )
    tiny = ("encoder/text=transformer", "encoder.text.dim=16", "encoder.text.depth=1", "encoder.text.heads=2")
    data = ("data=table", "data.train=t.jsonl", "data.columns.image=null", "objective=classify")
    status, out, error = mmexp(
        "train", *data, *tiny, "fusion=none", "objective.classify.source=text", "budget.steps=2", "hydra.run.dir=run"
    )
    assert status == 0, error
    assert "data.batch_size=128 is cut to the 27 of 27 rows to learn from" in out
    assert "val is 3 of the 30 rows of train: stratified by label" in out


def test_no_evaluation_picture_of_emoji_is_among_the_training_pictures():
    source = emoji()
    rows = {name: len(samples) for name, samples in source.splits.items()}
    assert rows == {"train": 4042, "val": 352, "test": 542, "test_cross_style": 1609}
    pixels = {
        name: {np.asarray(samples.read(row, "image")).tobytes() for row in range(len(samples))}
        for name, samples in source.splits.items()
    }
    assert not pixels["train"] & (pixels["val"] | pixels["test"] | pixels["test_cross_style"])
    assert not pixels["val"] & (pixels["test"] | pixels["test_cross_style"])


def notes(folder, captions, labels=None, test=None):
    rows = [{"caption": caption, "label": label} for caption, label in zip(captions, labels or captions, strict=True)]
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    columns = COLUMNS if labels else {"text": "caption"}
    return list(table(str(folder / "t.jsonl"), columns, test=test, val_fraction=0).notes)


def test_data_that_say_little_are_reported(tmp_path):
    assert notes(tmp_path, ["a", "b", "c"], ["x", "y", "x"]) == []
    assert notes(tmp_path, ["a"]) == ["train has a single row: there is nothing to tell it from"]
    assert notes(tmp_path, ["same"] * 3) == [
        "all 3 texts of train are alike: nothing can be found by them",
        "2 of the 3 rows of train repeat another row in all modalities",
    ]
    assert notes(tmp_path, ["a", "b", "c"], ["x", "x", None])[1:] == [
        "all 2 labelled rows of train are of the class 'x': accuracy tells nothing there"
    ]


def test_rows_without_a_label_or_a_number_are_counted(tmp_path):
    assert notes(tmp_path, ["a", "b", "c", "d"], ["x", "y", None, "x"]) == ["1 of the 4 rows of train have no label"]
    lines = [json.dumps({"caption": f"{i}", "n": n}) for i, n in enumerate([1.5, None, 1.5])]
    (tmp_path / "n.jsonl").write_text("\n".join(lines))
    source = table(str(tmp_path / "n.jsonl"), {"text": "caption", "target": "n"}, val_fraction=0)
    assert source.notes == [
        "1 of the 3 rows of train have no number",
        "all 2 numbers of train are 1.5: R² cannot be measured there",
    ]


def test_lists_in_a_table_of_text_are_reported(tmp_path):
    (tmp_path / "t.csv").write_text("caption\n" + "\n".join(f'"[""a {i}"", ""the {i}""]"' for i in range(3)))
    source = table(str(tmp_path / "t.csv"), {"text": "caption"}, val_fraction=0)
    (note,) = source.notes
    assert note.startswith("3 of the 3 texts of train are written as lists, and each is read as one text")


def test_rows_that_share_a_caption_of_a_list_are_held_out_together(tmp_path):
    captions = [[f"a {i}", f"pair {i // 2}"] for i in range(20)]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps({"caption": own}) for own in captions))
    source = table(str(tmp_path / "t.jsonl"), {"text": "caption"}, val_fraction=0.2)
    held = {text for row in range(4) for text in source.splits["val"].texts(row)}
    assert len(source.splits["val"]) == 4 and len([text for text in held if text.startswith("pair")]) == 2
    assert source.notes == ["val is 4 of the 20 rows of train: grouped by text"]


def test_pictures_of_train_that_are_measured_again_are_counted(tmp_path):
    for number in range(4):
        Image.new("RGB", (4, 4), (number % 3, 0, 0)).save(tmp_path / f"{number}.png")
    for name, numbers in {"train": (0, 1), "test": (2, 3)}.items():
        rows = [json.dumps({"image": f"{i}.png", "caption": f"{i}"}) for i in numbers]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
    paths = [str(tmp_path / f"{name}.jsonl") for name in ("train", "test")]
    source = table(paths[0], {"image": "image", "text": "caption"}, test=paths[1], val_fraction=0)
    assert source.notes == ["1 of the 2 rows of test with a picture have one that is in train too"]
