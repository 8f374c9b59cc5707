"""The order in which rows are read: a function of seed and epoch; each process takes its share."""

from collections.abc import Iterator

import numpy as np
import torch.distributed as dist

from mmexp.types import AS_IT_IS, Place


def _process() -> tuple[int, int]:
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


class TrainOrder:
    """Batches of places. The order is a function of seed and epoch; each process takes its share of every batch."""

    def __init__(self, rows: int, batch_size: int, seed: int):
        self.rows, self.batch_size, self.seed, self.epoch = rows, batch_size, seed, 0

    def __len__(self) -> int:
        return self.rows // self.batch_size

    @property
    def sampler(self) -> "TrainOrder":
        """Return itself: Lightning tells the epoch to the `sampler` of a batch sampler, never to the batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Lightning tells which epoch begins."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[Place]]:
        rank, world = _process()
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.rows)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield [(int(row), self.epoch) for row in order[start + rank : start + self.batch_size : world]]


class EvaluationOrder:
    """All rows in order; processes take turns, the last ones repeat a row where the division is uneven."""

    def __init__(self, rows: int, batch_size: int):
        self.rows, self.batch_size = rows, batch_size

    def _own(self) -> list[int]:
        rank, world = _process()
        per_process = -(-self.rows // world)
        return [min(rank + i * world, self.rows - 1) for i in range(per_process)]

    def __len__(self) -> int:
        return -(-len(self._own()) // self.batch_size)

    def __iter__(self) -> Iterator[list[Place]]:
        own = self._own()
        for start in range(0, len(own), self.batch_size):
            yield [(row, AS_IT_IS) for row in own[start : start + self.batch_size]]
