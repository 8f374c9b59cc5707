"""The order of rows, as a trainer goes through it."""

import lightning as L
import numpy as np
import pytest
import torch
from stand_ins import TinyText
from torch.utils.data import DataLoader, Dataset

from mmexp.data.emoji import emoji
from mmexp.data.loaders import train_loader
from mmexp.data.loading import Loading
from mmexp.data.orders import EvaluationOrder, LabelledOrder, TrainOrder
from mmexp.data.variation import Variation
from mmexp.errors import RequestError

ROWS, BATCH, EPOCHS = 16, 4, 3


class Places(Dataset):
    def __len__(self):
        return ROWS

    def __getitems__(self, places):
        return places


class Watching(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(1, 1), []

    def training_step(self, places, index):
        self.seen += places
        return self.layer(torch.ones(1, 1)).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_every_epoch_of_a_training_has_an_order_of_its_own(tmp_path):
    task, order = Watching(), TrainOrder(ROWS, BATCH, seed=0, steps=EPOCHS * ROWS // BATCH)
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=len(order),
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(task, DataLoader(Places(), batch_sampler=order, collate_fn=lambda batch: batch))
    epochs = [task.seen[start : start + ROWS] for start in range(0, EPOCHS * ROWS, ROWS)]
    assert [{epoch for _, epoch in places} for places in epochs] == [{0}, {1}, {2}]
    orders = [tuple(row for row, _ in places) for places in epochs]
    assert len(set(orders)) == EPOCHS
    assert all(sorted(rows) == list(range(ROWS)) for rows in orders)


def test_an_order_begins_anywhere_with_what_would_have_come_there():
    whole = list(TrainOrder(ROWS, BATCH, seed=0, steps=11))
    for start in range(12):
        order = TrainOrder(ROWS, BATCH, seed=0, steps=11)
        order.start = start
        assert list(order) == whole[start:]
        assert len(order) == 11


def test_batches_of_like_length_are_of_random_rows():
    lengths = np.random.default_rng(0).integers(1, 60, 4000)
    order = TrainOrder(4000, 16, seed=0, lengths=lengths)
    batches = [[row for row, _ in batch] for batch in order]
    assert sorted(row for batch in batches for row in batch) == list(range(4000))

    def padded(batches) -> float:
        return sum(lengths[batch].max() * len(batch) for batch in batches) / lengths.sum()

    plain = [[row for row, _ in batch] for batch in TrainOrder(4000, 16, seed=0)]
    assert padded(batches) < 1.05 < 1.5 < padded(plain)
    # Neither short ones first, nor the same rows together in the next epoch.
    means = [lengths[batch].mean() for batch in batches]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.3
    second = TrainOrder(4000, 16, seed=0, steps=500, lengths=lengths)
    second.start = 250
    together = {frozenset(batch) for batch in batches} & {frozenset(row for row, _ in batch) for batch in second}
    assert not together


def test_an_order_by_length_begins_anywhere_too():
    lengths = np.arange(ROWS) % 5
    whole = list(TrainOrder(ROWS, BATCH, seed=0, steps=11, lengths=lengths))
    order = TrainOrder(ROWS, BATCH, seed=0, steps=11, lengths=lengths)
    order.start = 6
    assert list(order) == whole[6:]


LABELS = np.array([0, -1, -1, 1, -1, -1, -1, 1, -1, -1, -1, -1, 2, -1, -1, -1, -1, -1, -1, -1])


def read(order, start=0):
    order.start = start
    return [[row for row, _ in batch] for batch in order]


def test_every_batch_has_its_labelled_rows_and_mu_times_as_many_without():
    order = LabelledOrder(LABELS, batch_size=8, seed=0, mu=3, steps=40)
    batches = read(order)
    assert len(batches) == 40 and order.note == "a step reads 2 labelled and 6 unlabelled rows"
    assert all((LABELS[batch] >= 0).sum() == 2 and len(batch) == 8 for batch in batches)
    labelled, rest = (np.array(batches)[:, part].ravel() for part in (slice(2), slice(2, None)))
    # Both kinds are read pass after pass: every two steps all four labelled rows, every eight all others three times.
    assert all(sorted(labelled[i : i + 4]) == [0, 3, 7, 12] for i in range(0, 80, 4))
    assert (np.bincount(rest, minlength=20)[LABELS < 0] == 15).all()
    assert len({tuple(labelled[i : i + 4]) for i in range(0, 80, 4)}) > 5
    # A reading of a row in another step is another view of it.
    order.start = 0
    assert [{epoch for _, epoch in batch} for batch in order] == [{step} for step in range(40)]


def test_the_order_by_labels_is_resumed_and_shared_out(monkeypatch):
    order = LabelledOrder(LABELS, batch_size=8, seed=3, mu=3, steps=20)
    whole = read(order)
    assert read(order, start=13) == whole[13:]
    assert read(LabelledOrder(LABELS, 8, 4, 3, 20)) != whole
    shares = []
    for rank in range(2):
        monkeypatch.setattr("mmexp.data.orders._process", lambda rank=rank: (rank, 2))
        shares.append(read(order))
    for batch, *parts in zip(whole, *shares, strict=True):
        assert sorted(batch) == sorted(parts[0] + parts[1])
        assert [int((LABELS[part] >= 0).sum()) for part in parts] == [1, 1] and len(parts[0]) == len(parts[1]) == 4


def test_fewer_labels_than_a_batch_asks_for_come_again():
    labels = np.array([0, *[-1] * 9])
    order = LabelledOrder(labels, batch_size=6, seed=0, mu=1, steps=4)
    assert all(batch.count(0) == 3 and len(set(batch)) == 4 for batch in read(order))
    assert LabelledOrder(labels, 6, 0, mu=100).sizes == (1, 5)


def test_the_loader_draws_by_label_where_the_objective_says_how():
    samples = emoji(styles=["noto"], labels_per_class=4).splits["train"]
    encoders = {"text": TinyText()}

    def shares(mu):
        loader = train_loader(samples, encoders, Loading(batch_size=32), Variation(0), mu=mu)
        batches = [batch["label"] for batch, _ in zip(loader, range(5), strict=False)]
        return [int((labels >= 0).sum()) for labels in batches]

    assert shares(7.0) == [4] * 5 and shares(None) != [4] * 5
    whole = emoji(styles=["noto"]).splits["train"]
    assert isinstance(train_loader(whole, encoders, Loading(), Variation(0), mu=7.0).batch_sampler, TrainOrder)
    with pytest.raises(RequestError, match=r"batches are drawn by label \(mu of the objective\)"):
        train_loader(samples, encoders, Loading(by_length=True), Variation(0), mu=7.0)


def test_processes_share_the_batches_of_an_evaluation(monkeypatch):
    order = EvaluationOrder(11, batch_size=4)
    whole, shares = list(order), []
    for rank in range(2):
        monkeypatch.setattr("mmexp.data.orders._process", lambda rank=rank: (rank, 2))
        assert len(order) == 3
        shares.append(list(order))
    for batch, *parts in zip(whole, *shares, strict=True):
        # The last row is read twice, so that both have as many.
        assert sorted({*parts[0], *parts[1]}) == batch and len(parts[0]) == len(parts[1])
