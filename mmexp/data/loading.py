"""From samples to batches: the order of rows, decoded pictures kept, each encoder's own preparation."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmexp.data.crop import random_crops
from mmexp.errors import RequestError
from mmexp.types import Batch, Encoder, Fraction, NonNegativeInt, PositiveInt, Prepared, Samples

Place = tuple[int, int]
"""A row and the epoch in which it is read; -1 for reading without variation."""


@dataclass(frozen=True)
class Loading:
    """How rows become batches: the keys that every choice of `data` shares.

    `batch_size` counts the rows of one step over all processes. `crop` is the least share of a side that a random crop
    keeps (1: no cropping). Decoded pictures stay in memory while a split's fit into `cache_bytes`.
    """

    batch_size: PositiveInt = 128
    num_workers: NonNegativeInt = 0
    crop: Fraction = 1.0
    cache_bytes: NonNegativeInt = 2_000_000_000


def _process() -> tuple[int, int]:
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


class TrainOrder:
    """Batches of places. The order is a function of seed and epoch; each process takes its share of every batch."""

    def __init__(self, rows: int, batch_size: int, seed: int):
        self.rows, self.batch_size, self.seed, self.epoch = rows, batch_size, seed, 0

    def __len__(self) -> int:
        return self.rows // self.batch_size

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
            yield [(row, -1) for row in own[start : start + self.batch_size]]


class Pictures:
    """One split's pictures as one image encoder wants them, decoded once where they fit into memory shared by workers."""

    def __init__(self, samples: Samples, encoder: Any, cache_bytes: int):
        self.samples, self.encoder = samples, encoder
        size = encoder.image_size
        kept = len(samples) if len(samples) * 3 * size**2 <= cache_bytes else 0
        self.pixels = torch.empty(kept, 3, size, size, dtype=torch.uint8).share_memory_()
        self.decoded = torch.zeros(kept, dtype=torch.bool).share_memory_()

    def __call__(self, rows: list[int]) -> Tensor:
        """Return uint8 (B, 3, S, S)."""
        if not len(self.pixels):
            return self._decode(rows)
        missing = [row for row in rows if not self.decoded[row]]
        if missing:
            self.pixels[missing] = self._decode(missing)
            self.decoded[missing] = True
        return self.pixels[rows]

    def _decode(self, rows: list[int]) -> Tensor:
        return self.encoder.prepare([self.samples.read(row, "image") for row in rows])["pixels"]


class PreparedSamples(Dataset[Batch]):
    """Whole batches of a split, as its encoders want them; `teacher` holds the same samples as a teacher wants them."""

    def __init__(
        self,
        samples: Samples,
        encoders: Mapping[str, Encoder],
        loading: Loading,
        seed: int,
        crop: float = 1.0,
        teachers: Mapping[str, Encoder] | None = None,
    ):
        self.samples, self.seed, self.crop = samples, seed, crop
        self.readers = self._readers(encoders, loading)
        self.teachers = self._readers(teachers, loading) if teachers else None

    def _readers(self, encoders: Mapping[str, Encoder], loading: Loading) -> dict[str, Any]:
        return {
            name: Pictures(self.samples, encoder, loading.cache_bytes) if name == "image" else encoder
            for name, encoder in encoders.items()
        }

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, places: Sequence[Place]) -> Batch:
        """Return the batch of `places`."""
        rows = [row for row, _ in places]
        batch: Batch = {
            "index": torch.tensor(rows),
            "concept": torch.from_numpy(self.samples.concepts[rows]),
            "label": torch.from_numpy(self.samples.labels[rows]),
            **self._prepared(self.readers, places),
        }
        if self.teachers:
            batch["teacher"] = self._prepared(self.teachers, places)
        return batch

    def _prepared(self, readers: dict[str, Any], places: Sequence[Place]) -> dict[str, Prepared]:
        prepared = {}
        for name, reader in readers.items():
            if isinstance(reader, Pictures):
                prepared[name] = {"pixels": self._cropped(reader([row for row, _ in places]), places)}
            else:
                values = [self.samples.read(row, name, self._rng(row, epoch)) for row, epoch in places]
                prepared[name] = reader.prepare(values)
        return prepared

    def _rng(self, row: int, epoch: int) -> np.random.Generator | None:
        return np.random.default_rng((self.seed, epoch, row)) if epoch >= 0 else None

    def _cropped(self, pixels: Tensor, places: Sequence[Place]) -> Tensor:
        if self.crop >= 1 or places[0][1] < 0:
            return pixels
        draws = np.stack([np.random.default_rng((self.seed, epoch, row, 1)).random(4) for row, epoch in places])
        return random_crops(pixels, self.crop, draws)


def _as_it_is(batch: Any) -> Any:
    return batch


def _loader(samples: PreparedSamples, order: Any, loading: Loading) -> DataLoader[Batch]:
    return DataLoader(
        samples,
        batch_sampler=order,
        collate_fn=_as_it_is,
        num_workers=loading.num_workers,
        persistent_workers=loading.num_workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


Encoders = Mapping[str, Encoder]


def train_loader(
    samples: Samples, encoders: Encoders, loading: Loading, seed: int, teachers: Encoders | None = None
) -> DataLoader[Batch]:
    """Return shuffled batches of `loading.batch_size` rows. Raises RequestError where there are fewer rows than that."""
    if len(samples) < loading.batch_size:
        raise RequestError(
            f"data.batch_size={loading.batch_size} is more than the {len(samples)} rows of the train split. "
            f"Set data.batch_size={len(samples)} or less."
        )
    order = TrainOrder(len(samples), loading.batch_size, seed)
    prepared = PreparedSamples(samples, encoders, loading, seed, loading.crop, teachers)
    return _loader(prepared, order, loading)


def evaluation_loader(
    samples: Samples, encoders: Encoders, loading: Loading, teachers: Encoders | None = None
) -> DataLoader[Batch]:
    """Return all rows in order, without variation."""
    order = EvaluationOrder(len(samples), loading.batch_size)
    return _loader(PreparedSamples(samples, encoders, loading, 0, teachers=teachers), order, loading)
