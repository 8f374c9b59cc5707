"""The bundled data: what is in which split, and that nothing of one leaks into another."""

import numpy as np
import pytest

from mmexp.data.emoji import ASSETS, emoji
from mmexp.data.emoji_tags import tag_targets
from mmexp.data.few_labels import drawn_rows, few_shots
from mmexp.data.orders import TrainOrder
from mmexp.errors import RequestError


@pytest.fixture(scope="module")
def source():
    return emoji()


def concepts(source, split: str) -> set[int]:
    return set(source.splits[split].concepts.tolist())


def test_every_split_is_there(source):
    sizes = {name: len(samples) for name, samples in source.splits.items()}
    assert sizes["train"] > 4000 and min(sizes.values()) > 300
    assert list(sizes) == ["train", "val", "test", "test_cross_style"]


def test_unseen_concepts_are_unseen(source):
    train, val, test = (concepts(source, name) for name in ("train", "val", "test"))
    assert not train & val and not train & test and not val & test


def test_near_relatives_are_in_one_split(source):
    """Woman, man and person at the same thing differ by little: trained on one, the others would be known."""
    homes: dict[str, set[str]] = {}
    for name, samples in source.splits.items():
        for row in range(len(samples)):
            label = samples.read(row, "text").partition(":")[0]
            word = label.replace("woman", "person").replace("man", "person")
            if word.startswith("person "):
                homes.setdefault(word, set()).add(name.replace("test_cross_style", "train"))
    assert len(homes) > 30
    assert all(len(found) == 1 for found in homes.values())


def test_cross_style_is_of_seen_concepts_in_a_style_they_were_not_seen_in(source):
    train, cross = source.splits["train"], source.splits["test_cross_style"]
    seen = set(zip(train.concepts.tolist(), train.styles, strict=True))
    held = set(zip(cross.concepts.tolist(), cross.styles, strict=True))
    assert concepts(source, "test_cross_style") <= concepts(source, "train")
    assert not seen & held


def test_pictures_and_texts(source):
    samples = source.splits["test"]
    assert samples.read(0, "image").size == (64, 64)
    assert samples.read(0, "image").mode == "RGB"
    whole = samples.read(0, "text")
    label, _, tags = whole.partition(": ")
    varied = {samples.read(0, "text", np.random.default_rng(seed)) for seed in range(20)}
    assert label in varied and len(varied) > 3
    assert all(set(text.partition(": ")[2].split(", ")) <= {*tags.split(", "), ""} for text in varied)
    assert samples.styles[0] in samples.where(0)


def test_the_same_draw_gives_the_same_text(source):
    samples = source.splits["train"]
    first, second = (samples.read(3, "text", np.random.default_rng(7)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("locale", sorted(path.stem for path in ASSETS.glob("text/*.parquet")))
def test_every_language(locale):
    source = emoji(locale=locale)
    assert source.splits["train"].read(0, "text")
    assert source.fingerprint != emoji(locale="de" if locale == "en" else "en").fingerprint


def test_styles_are_chosen():
    source = emoji(styles=["noto"], label="subgroup")
    assert set(source.splits["train"].styles) == {"noto"}
    assert len(source.classes) > 50


@pytest.mark.parametrize(
    ("asked", "message"),
    [({"locale": "fre"}, "'fre' is not among .* Did you mean 'fr'"), ({"styles": ["nooto"]}, "Did you mean 'noto'")],
)
def test_what_is_not_there_gets_the_nearest_name(asked, message):
    with pytest.raises(RequestError, match=message):
        emoji(**asked)


def test_tags_are_weak_labels():
    source = emoji(styles=["noto"], label="tags", tag_concepts=30)
    samples = source.splits["train"]
    assert source.classes == sorted(source.classes) and "flag" in source.classes
    assert set(np.unique(samples.targets)) == {0, 0.5, 1}
    assert (samples.labels == -1).all()
    own = [set(samples.read(row, "text").rpartition(": ")[2].split(", ")) for row in range(len(samples))]
    for i, tag in enumerate(source.classes):
        rows = np.flatnonzero(samples.targets[:, i] == 1)
        assert rows.tolist() == [row for row in range(len(samples)) if tag in own[row]]
        assert len(rows) >= 30


def test_a_tag_that_only_the_label_names_is_neither_right_nor_wrong():
    text = {"label": "smiling face with heart-eyes", "tags": ["love", "red heart"]}
    assert tag_targets(text, ["love", "heart", "face", "heart eyes", "cat"]).tolist() == [1, 0.5, 0.5, 0, 0]


def test_few_labels_are_the_same_rows_in_every_run():
    few, again = (emoji(styles=["noto"], labels_per_class=3) for _ in range(2))
    every = emoji(styles=["noto"])
    labels, whole = few.splits["train"].labels, every.splits["train"].labels
    assert np.unique(labels, return_counts=True)[1][1:].tolist() == [3] * len(every.classes)
    assert (labels[labels >= 0] == whole[labels >= 0]).all()
    assert np.array_equal(labels, again.splits["train"].labels)
    assert np.array_equal(few.splits["test"].labels, every.splits["test"].labels)
    assert few.fingerprint != every.fingerprint


def test_few_of_no_labels_are_refused():
    with pytest.raises(RequestError, match="or each has several"):
        emoji(styles=["noto"], label="tags", labels_per_class=3)


@pytest.mark.parametrize("seed", [0, 1])
def test_few_labels_are_spread_over_the_batches(seed):
    labels = emoji(labels_per_class=25).splits["train"].labels
    counts = [(labels[[row for row, _ in batch]] >= 0).sum() for batch in TrainOrder(len(labels), 128, seed)]
    # About 7 of 128 in each.
    assert max(counts) < 20


def test_shots_are_rows_of_each_class_by_the_seed():
    source = emoji(styles=["noto"])
    two, again, other = (few_shots(source, 2, seed) for seed in (0, 0, 1))
    whole, few = source.splits["train"], two.splits["train"]
    assert np.bincount(few.labels).tolist() == [2] * len(source.classes)
    assert few.rows.tolist() == again.splits["train"].rows.tolist() != other.splits["train"].rows.tolist()
    assert set(few.rows) < set(few_shots(source, 4, 0).splits["train"].rows)
    assert len({two.fingerprint, other.fingerprint, source.fingerprint}) == 3
    assert two.splits["test"] is source.splits["test"]
    for row, original in enumerate(few.rows):
        assert few.where(row) == whole.where(original)
        assert few.read(row, "text") == whole.read(original, "text")
        assert (few.concepts[row], few.labels[row]) == (whole.concepts[original], whole.labels[original])


def test_a_class_with_fewer_rows_than_shots_keeps_them_all():
    labels = np.array([0, 1, 1, -1, 1, 0, 1])
    assert np.bincount(labels[drawn_rows(labels, 3, 0, "shots")]).tolist() == [2, 3]


def test_shots_of_no_labels_are_refused():
    with pytest.raises(RequestError, match=r"data\.shots: no row of train has a label"):
        few_shots(emoji(styles=["noto"], label="tags"), 2, 0)
