"""easy-VQA: the official splits, and that no picture of one is in another."""

import hashlib

import numpy as np
import pytest

from mmexp.data import easy_vqa as module
from mmexp.data.easy_vqa import easy_vqa
from mmexp.data.few_labels import fraction_of
from mmexp.data.loading import Loading
from mmexp.errors import RequestError


@pytest.fixture(scope="module")
def source():
    return easy_vqa()


def test_the_splits_are_the_official_ones(source):
    sizes = {name: len(samples) for name, samples in source.splits.items()}
    assert sizes["train"] + sizes["val"] == 38575
    assert sizes["test"] == 9673
    assert len(source.classes) == 13
    assert [len(set(s.pictures.tolist())) for s in source.splits.values()] == [3600, 400, 1000]


def test_no_picture_of_train_is_in_val_or_test(source):
    """By file, which is what could leak from train to val; the official test has files of its own."""
    files = {name: {samples.file(row) for row in range(len(samples))} for name, samples in source.splits.items()}
    assert not files["train"] & files["val"]
    assert not (files["train"] | files["val"]) & files["test"]
    content = [hashlib.sha256(file.read_bytes()).digest() for file in sorted(files["train"] | files["val"])]
    assert len(set(content)) == len(content)
    items = {name: set(samples.items["image"].tolist()) for name, samples in source.splits.items()}
    assert [len(own) for own in items.values()] == [3600, 400, 1000] and len(set.union(*items.values())) == 5000
    assert not source.concepts_stated


def test_every_row_is_a_picture_a_question_and_its_answer(source):
    samples = source.splits["test"]
    assert samples.read(0, "image").size == (64, 64)
    assert samples.read(0, "text") == "what is the red shape?"
    assert source.classes[samples.labels[0]] == "triangle"
    assert samples.where(0).endswith("test/images/0.png, 'what is the red shape?'")
    concepts = [concept for s in source.splits.values() for concept in s.concepts.tolist()]
    asked = {(s.folder, s.pictures[row], s.questions[row]) for s in source.splits.values() for row in range(len(s))}
    assert len(set(concepts)) == len(concepts) == len(asked)


def test_a_fraction_of_the_rows_is_drawn_by_the_seed(source):
    whole = source.splits["train"]
    tenth, again, other = (fraction_of(source, 0.1, seed) for seed in (0, 0, 1))
    few = tenth.splits["train"]
    assert len(few) == round(0.1 * len(whole)) and (np.diff(few.rows) > 0).all()
    assert few.rows.tolist() == again.splits["train"].rows.tolist() != other.splits["train"].rows.tolist()
    assert set(few.rows) < set(fraction_of(source, 0.2, 0).splits["train"].rows)
    # Drawn alike from all rows: answers are as frequent as they were, and so are the places in the file.
    shares = [np.bincount(s.labels, minlength=13) / len(s) for s in (whole, few)]
    assert abs(shares[0] - shares[1]).max() < 0.02
    assert abs(np.histogram(few.rows, 5, (0, len(whole)))[0] / len(few) - 0.2).max() < 0.03
    assert len({tenth.fingerprint, other.fingerprint, source.fingerprint}) == 3
    assert tenth.splits["val"] is source.splits["val"] and tenth.splits["test"] is source.splits["test"]
    assert few.where(5) == whole.where(few.rows[5])


def test_of_a_fraction_a_row_is_left_and_a_batch_is_no_larger(source):
    one = fraction_of(source, 0.0, 0).splits["train"]
    assert len(one) == 1
    assert Loading(batch_size=128).of(len(one)).batch_size == 1


def test_a_missing_package_is_told_with_what_installs_it(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(module, "files", missing)
    with pytest.raises(RequestError, match=r"pip install 'mmexp\[vqa\]'"):
        easy_vqa()
