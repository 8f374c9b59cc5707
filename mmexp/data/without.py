"""Evaluation sets without a modality: what a model that learned from several still knows when one is gone."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mmexp.data.chosen import ChosenSamples
from mmexp.data.items import MISSING
from mmexp.errors import RequestError, nearest
from mmexp.types import DataSource, Samples


def measured_without(source: DataSource, modalities: Sequence[str], read: Sequence[str]) -> DataSource:
    """Return the data with `<set>_without_<modality>` beside each evaluation set but `val`, or beside `val` where it is alone.

    Rows that have nothing else of what is `read` are not in it. Raises RequestError for a modality that the data does not
    have, that no encoder reads or that is read alone, and for tasks in sequence.
    """
    if source.tasks:
        raise RequestError("data.without: tasks in sequence are measured with all that they have. Leave it null.")
    for name in modalities:
        if name not in source.modalities:
            raise RequestError(f"data.without: the data has no '{name}'.{nearest(name, source.modalities)}")
        if name not in read:
            raise RequestError(f"data.without: no encoder reads '{name}'.{nearest(name, read)}")
    if len(read) < 2:
        raise RequestError(f"data.without: without {modalities[0]} there is nothing to read. Leave it null.")
    sets = [name for name in source.splits if name not in ("train", "val")] or [n for n in source.splits if n == "val"]
    added = {
        f"{split}_without_{name}": _without(source.splits[split], split, name, read)
        for split in sets
        for name in dict.fromkeys(modalities)
    }
    return replace(source, splits={**source.splits, **added})


def _without(samples: Samples, split: str, modality: str, read: Sequence[str]) -> ChosenSamples:
    rest = np.any([_present(samples, name) for name in read if name != modality], axis=0)
    if not rest.any():
        raise RequestError(
            f"data.without: no row of {split} has anything to read but {modality}. Leave {modality} out."
        )
    part = ChosenSamples(samples, np.flatnonzero(rest))
    part.present[modality] = np.zeros(len(part), dtype=bool)
    part.items[modality] = np.full(len(part), MISSING, dtype=np.int64)
    part.read_as = split if rest.all() else None
    return part


def _present(samples: Samples, modality: str) -> np.ndarray:
    known = getattr(samples, "present", None) or {}
    return known.get(modality, np.ones(len(samples), dtype=bool))
