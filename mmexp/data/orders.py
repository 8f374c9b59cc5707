"""The order in which rows are read: a function of seed and epoch; each process takes its share."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import count, islice

import numpy as np
import torch.distributed as dist

from mmexp.types import AS_IT_IS, Place

# What a draw is for: the order of a pass, which rows are kept, which of them are read again.
_PASS, _MEMORY, _AGAIN = range(3)
# Batches that share out their rows by length: enough to spare nearly all padding, few enough that batches stay random.
_AMONG = 50


def _process() -> tuple[int, int]:
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


class TrainOrder:
    """Batches of places, all `steps` of a run. The order is a function of seed and epoch; each process takes its share of
    every batch.

    To a trainer all of the run is one epoch: the steps that it counts are then those of the run, and one that is resumed
    begins at `start`, in the middle of an epoch or not. By `lengths (rows,)` a batch has rows of like length.
    """

    def __init__(
        self, rows: int, batch_size: int, seed: int, steps: int | None = None, lengths: np.ndarray | None = None
    ):
        self.rows, self.batch_size, self.seed, self.lengths = rows, batch_size, seed, lengths
        self.steps_per_epoch = rows // batch_size
        self.steps, self.start = steps or self.steps_per_epoch, 0

    @property
    def steps_per_view(self) -> int:
        """Return after how many steps a row may be seen in another view."""
        return self.steps_per_epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Place]]:
        rank, world = _process()
        first, within = divmod(self.start, self.steps_per_epoch)
        batches = (batch for epoch in count(first) for batch in self._epoch(epoch))
        for rows, epoch in islice(batches, within, within + self.steps - self.start):
            yield [(int(row), epoch) for row in rows[rank::world]]

    def _epoch(self, epoch: int) -> Iterator[tuple[np.ndarray, int]]:
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(self.rows)[: self.steps_per_epoch * self.batch_size]
        batches = order.reshape(-1, self.batch_size)
        yield from ((batch, epoch) for batch in (batches if self.lengths is None else self._alike(order, rng)))

    def _alike(self, order: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return batches (steps, batch_size), each of neighbours in length among the rows of `_AMONG` batches of the order."""
        assert self.lengths is not None
        span = _AMONG * self.batch_size
        parts = [order[start : start + span] for start in range(0, len(order), span)]
        sorted_parts = [part[np.argsort(self.lengths[part], kind="stable")] for part in parts]
        return rng.permutation(np.concatenate(sorted_parts).reshape(-1, self.batch_size))


class LabelledOrder:
    """Batches with a fixed number of labelled and of unlabelled rows, all `steps` of a run (FixMatch, arXiv:2001.07685).

    Of `batch_size` rows, B = batch_size / (1 + mu), rounded and at least one, have a label, the others none: mu unlabelled rows
    for a labelled one. Both kinds are read pass after pass, each in an order that is a function of (seed, kind, pass), so that
    step s reads the same rows wherever a run begins. A row is read in the run's step, in place of an epoch: no two readings of
    a labelled row vary alike. Each process takes its share of both kinds.
    """

    steps_per_view = 1

    @property
    def note(self) -> str:
        """Return in words what a step reads."""
        return f"a step reads {self.sizes[0]} labelled and {self.sizes[1]} unlabelled rows"

    def __init__(self, labels: np.ndarray, batch_size: int, seed: int, mu: float, steps: int | None = None):
        self.kinds = (np.flatnonzero(labels >= 0), np.flatnonzero(labels < 0))
        labelled = min(max(1, round(batch_size / (1 + mu))), batch_size)
        self.sizes, self.seed = (labelled, batch_size - labelled), seed
        self.steps_per_epoch = max(1, len(labels) // batch_size)
        self.steps, self.start = steps or self.steps_per_epoch, 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Place]]:
        rank, world = _process()
        for step in range(self.start, self.steps):
            rows = np.concatenate([self._rows(kind, step) for kind in (0, 1)])
            yield [(int(row), step) for row in rows[rank::world]]

    def _rows(self, kind: int, step: int) -> np.ndarray:
        """Return the rows of one kind in a step: a piece of its passes, laid end to end."""
        rows, size = self.kinds[kind], self.sizes[kind]
        places = np.arange(step * size, (step + 1) * size)
        passes = {n: _permuted((self.seed, kind, n), rows) for n in np.unique(places // len(rows)).tolist()}
        return np.array([passes[place // len(rows)][place % len(rows)] for place in places.tolist()], dtype=np.int64)


@lru_cache(maxsize=8)
def _permutation(key: tuple[int, ...], count: int) -> np.ndarray:
    return np.random.default_rng(key).permutation(count)


def _permuted(key: tuple[int, ...], rows: np.ndarray) -> np.ndarray:
    return rows[_permutation(key, len(rows))]


class SequenceOrder:
    """Batches of one task after another: what a trainer takes for an epoch is a task here, of `steps` batches.
    Which one is said by `task`: the epochs that a trainer counts go astray when it resumes. The first one that is read begins
    at its step `start`.

    `tasks` are the rows of each. They are read pass after pass in an order that is a function of (seed, task, pass). A row is
    read in the run's step, in place of an epoch: no two readings of it vary alike. From the second task on a `share` of each
    batch is drawn, by (seed, task, step), from the `kept` rows of the tasks before, as many of each.
    """

    def __init__(
        self, tasks: Sequence[np.ndarray], batch_size: int, seed: int, steps: int, kept: int = 0, share: float = 0.0
    ):
        self.tasks, self.batch_size, self.seed, self.steps = tasks, batch_size, seed, steps
        self.kept, self.share, self.task, self.start = kept, share, 0, 0

    def __len__(self) -> int:
        return self.steps

    def memory(self, task: int) -> np.ndarray:
        """Return the rows of earlier tasks that are kept while `task` is trained: of each the first of an order of its own."""
        each = [
            np.random.default_rng((self.seed, before, _MEMORY)).permutation(self.tasks[before])[: self.kept // task]
            for before in range(task)
        ]
        return np.concatenate(each) if each else np.zeros(0, dtype=np.int64)

    def _passes(self, rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
        for number in count():
            order = np.random.default_rng((self.seed, self.task, number, _PASS)).permutation(rows)
            yield from order[: len(rows) // size * size].reshape(-1, size)

    def __iter__(self) -> Iterator[list[Place]]:
        rank, world = _process()
        memory = self.memory(self.task)
        old = min(round(self.share * self.batch_size), len(memory))
        own = self._passes(self.tasks[self.task], self.batch_size - old)
        first = self.task * self.steps
        begin, self.start = first + self.start, 0
        for step in range(first, first + self.steps):
            again = np.random.default_rng((self.seed, self.task, step, _AGAIN)).permutation(memory)[:old]
            rows = [*next(own), *again] if old < self.batch_size else again
            if step >= begin:
                yield [(int(row), step) for row in rows[rank::world]]


class EvaluationOrder:
    """All rows in order; processes take turns, the last ones repeat a row where the division is uneven.

    `batch_size` counts the rows of all processes, so that losses within a batch are the same whatever their number.
    """

    def __init__(self, rows: int, batch_size: int):
        self.rows, self.batch_size = rows, batch_size

    def _share(self) -> int:
        return max(1, self.batch_size // _process()[1])

    def _own(self) -> list[int]:
        rank, world = _process()
        per_process = -(-self.rows // world)
        return [min(rank + i * world, self.rows - 1) for i in range(per_process)]

    def __len__(self) -> int:
        return -(-len(self._own()) // self._share())

    def __iter__(self) -> Iterator[list[Place]]:
        own, share = self._own(), self._share()
        for start in range(0, len(own), share):
            yield [(row, AS_IT_IS) for row in own[start : start + share]]
