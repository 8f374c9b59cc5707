"""The order of rows, as a trainer goes through it."""

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mmexp.data.orders import TrainOrder

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
