"""The batches of a split in the order of their rows, prepared in workers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from mmexp.data.loading import Loading, PreparedSamples
from mmexp.data.orders import EvaluationOrder, LabelledOrder, SequenceOrder, TrainOrder
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
        num_workers=loading.num_workers or 0,
        persistent_workers=bool(loading.num_workers),
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
    mu: float | None = None,
) -> DataLoader[Batch]:
    """Return batches of `loading.batch_size` rows, shuffled by `seed`, None by that of the variation.

    With `mu` a batch has so many unlabelled rows for each labelled one, as far as there are any. Raises RequestError where
    there are fewer rows than a batch, where rows without texts are to have like lengths, and for lengths together with `mu`.
    """
    if len(samples) < loading.batch_size:
        raise RequestError(
            f"data.batch_size={loading.batch_size} is more than the {len(samples)} rows of the train split. "
            f"Set data.batch_size={len(samples)} or less."
        )
    seed = variation.seed if seed is None else seed
    lengths = _lengths(samples, encoders) if loading.by_length else None
    order: Any = TrainOrder(len(samples), loading.batch_size, seed, lengths=lengths)
    if mu is not None and draws_by_label(samples):
        if lengths is not None:
            raise RequestError(
                "data.by_length: batches are drawn by label (mu of the objective). Set data.by_length=false."
            )
        order = LabelledOrder(samples.labels, loading.batch_size, seed, mu)
    return _loader(PreparedSamples(samples, encoders, loading, variation, teachers, strong), order, loading)


def draws_by_label(samples: Samples) -> bool:
    """Say whether there are rows with a label and rows without, which batches can be made of in a fixed proportion."""
    labelled = samples.labels >= 0
    return bool(labelled.any() and not labelled.all())


def _lengths(samples: Samples, encoders: Encoders) -> np.ndarray:
    """Return how many letters each row's texts have (rows,). Raises RequestError where there are no texts."""
    names = [name for name, encoder in encoders.items() if encoder.modality == "text"]
    if not names:
        raise RequestError("data.by_length: no encoder reads texts. Set data.by_length=false.")
    present = getattr(samples, "present", None) or {}

    def letters(row: int, name: str) -> int:
        return len(str(samples.read(row, name))) if name not in present or present[name][row] else 0

    return np.array([sum(letters(row, name) for name in names) for row in range(len(samples))])


def sequence_loader(samples: PreparedSamples, order: SequenceOrder, loading: Loading) -> DataLoader[Batch]:
    """Return the batches of one task after another."""
    return _loader(samples, order, loading)


def evaluation_loader(
    samples: Samples, encoders: Encoders, loading: Loading, teachers: Encoders | None = None
) -> DataLoader[Batch]:
    """Return all rows in order, without variation."""
    order = EvaluationOrder(len(samples), loading.batch_size)
    return _loader(PreparedSamples(samples, encoders, loading, teachers=teachers), order, loading)
