"""Tasks in sequence: which rows they are of, and the order in which these are read."""

import json

import numpy as np
import pytest
from PIL import Image

from mmexp.data.emoji_sequence import emoji_sequence
from mmexp.data.orders import SequenceOrder
from mmexp.data.table_sequence import table_sequence
from mmexp.errors import RequestError

TASKS = [np.arange(0, 40), np.arange(40, 60), np.arange(60, 100)]


def rows(order: SequenceOrder, task: int) -> list[list[int]]:
    order.task = task
    return [[row for row, _ in batch] for batch in order]


def test_tasks_are_visited_in_sequence_each_pass_with_an_order_of_its_own():
    order = SequenceOrder(TASKS, batch_size=10, seed=0, steps=4)
    for task, own in enumerate(TASKS):
        batches = rows(order, task)
        assert [len(batch) for batch in batches] == [10] * 4
        assert set(np.concatenate(batches)) <= set(own)
    first = rows(order, 1)
    assert sorted(first[0] + first[1]) == sorted(first[2] + first[3]) == list(range(40, 60))
    assert first[0] + first[1] != first[2] + first[3]
    assert rows(order, 1) == first != rows(SequenceOrder(TASKS, 10, seed=1, steps=4), 1)


def test_the_memory_is_balanced_shrinks_and_is_a_function_of_the_seed():
    order = SequenceOrder(TASKS, batch_size=10, seed=0, steps=4, kept=12, share=0.4)
    assert len(order.memory(0)) == 0
    one, two = set(order.memory(1).tolist()), set(order.memory(2).tolist())
    assert len(one) == len(two) == 12 and one <= set(range(40))
    # What was dropped does not come back.
    assert len(two & set(range(40))) == 6 and two & set(range(40)) <= one
    assert set(SequenceOrder(TASKS, 10, 0, 4, 12, 0.4).memory(2).tolist()) == two
    assert set(SequenceOrder(TASKS, 10, 1, 4, 12, 0.4).memory(2).tolist()) != two
    for batch in rows(order, 2):
        assert sum(row in two for row in batch) == 4 and sum(row >= 60 for row in batch) == 6
    assert all(row < 40 for batch in rows(order, 0) for row in batch)
    assert rows(order, 2)[0] != rows(order, 2)[1]


def test_a_share_of_one_leaves_nothing_of_its_own():
    order = SequenceOrder(TASKS, batch_size=10, seed=0, steps=2, kept=12, share=1.0)
    assert all(row < 40 for batch in rows(order, 1) for row in batch)


def test_emoji_by_group():
    source = emoji_sequence(groups=["food", "smileys"])
    assert list(source.tasks) == ["food", "smileys"] == [name for name in source.splits if name != "train"]
    train = source.splits["train"]
    assert len(train) == sum(map(len, source.tasks.values())) == 700
    for name, own in source.tasks.items():
        test = source.splits[name]
        assert set(test.concepts) <= set(train.concepts[own])
        assert {source.classes[label] for label in test.labels} <= {
            source.classes[label] for label in train.labels[own]
        }
    assert train.read(int(source.tasks["smileys"][0]), "text").startswith("grinning face")
    with pytest.raises(RequestError, match=r"'foods' is not a group. Did you mean 'food'"):
        emoji_sequence(groups=["foods"])


def test_tables_one_after_another(tmp_path):
    for name, labels in (("a", "xy"), ("b", "yz")):
        lines = [f"{name} text {i},{labels[i % 2]}" for i in range(20)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["caption,label", *lines]))
    paths = [str(tmp_path / f"{name}.csv") for name in "ab"]
    source = table_sequence(paths, {"text": "caption", "label": "label"}, val_fraction=0.2)
    assert source.classes == ["x", "y", "z"]
    train = source.splits["train"]
    b = source.tasks["b"]
    assert train.read(int(b[0]), "text").startswith("b text")
    assert {source.classes[label] for label in train.labels[b]} == {"y", "z"}
    assert not set(train.concepts[source.tasks["a"]]) & set(train.concepts[b])
    assert not set(train.concepts) & set(source.splits["b"].concepts)
    assert train.texts(int(b[0])) == [train.read(int(b[0]), "text")]
    with pytest.raises(RequestError, match="Rename the file"):
        table_sequence([paths[0], paths[0]], {"text": "caption"})
    with pytest.raises(RequestError, match="leaves nothing to measure"):
        table_sequence(paths, {"text": "caption"}, val_fraction=0.0)


def test_joined_tables_tell_of_changed_files_and_of_each_text(tmp_path, monkeypatch):
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))
    for name in "ab":
        for number in range(4):
            Image.new("RGB", (4, 4), (number, ord(name), 0)).save(tmp_path / f"{name}{number}.png")
        rows = [{"image": f"{name}{i}.png", "caption": [f"{name} {i}", f"{name} {i} again"]} for i in range(4)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    paths = [str(tmp_path / f"{name}.jsonl") for name in "ab"]
    source = table_sequence(paths, {"image": "image", "text": "caption"}, val_fraction=0.3)
    train, last = source.splits["train"], int(source.tasks["b"][-1])
    assert len(train.texts(last)) == 2 and ". ".join(train.texts(last)) == train.read(last, "text")
    before = train.stamp()
    assert train.stamp() == before
    Image.new("RGB", (5, 5)).save(tmp_path / f"{train.texts(last)[0].replace(' ', '')}.png")
    assert train.stamp() != before
