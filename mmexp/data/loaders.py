"""The batches of a split in the order of their rows, prepared in workers."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

from mmexp.data.loading import Loading, PreparedSamples
from mmexp.data.orders import EvaluationOrder, SequenceOrder, TrainOrder
from mmexp.data.variation import Variation
from mmexp.errors import RequestError
from mmexp.types import Batch, Encoder, Samples


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
    samples: Samples,
    encoders: Encoders,
    loading: Loading,
    variation: Variation,
    teachers: Encoders | None = None,
    strong: Variation | None = None,
    seed: int | None = None,
) -> DataLoader[Batch]:
    """Return batches of `loading.batch_size` rows, shuffled by `seed`, None by that of the variation.

    Raises RequestError where there are fewer rows than that.
    """
    if len(samples) < loading.batch_size:
        raise RequestError(
            f"data.batch_size={loading.batch_size} is more than the {len(samples)} rows of the train split. "
            f"Set data.batch_size={len(samples)} or less."
        )
    order = TrainOrder(len(samples), loading.batch_size, variation.seed if seed is None else seed)
    return _loader(PreparedSamples(samples, encoders, loading, variation, teachers, strong), order, loading)


def sequence_loader(samples: PreparedSamples, order: SequenceOrder, loading: Loading) -> DataLoader[Batch]:
    """Return the batches of one task after another."""
    return _loader(samples, order, loading)


def evaluation_loader(
    samples: Samples, encoders: Encoders, loading: Loading, teachers: Encoders | None = None
) -> DataLoader[Batch]:
    """Return all rows in order, without variation."""
    order = EvaluationOrder(len(samples), loading.batch_size)
    return _loader(PreparedSamples(samples, encoders, loading, teachers=teachers), order, loading)
