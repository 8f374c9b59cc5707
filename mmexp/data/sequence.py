"""Tasks in sequence, out of the data of each."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from mmexp.data.chosen import chooses_texts, items_of, text_items_of, texts_of
from mmexp.types import DataSource, Samples


class Joined:
    """The rows of several samples, one after the other."""

    def __init__(self, parts: Sequence[Samples]):
        self.parts = parts
        self.places = list(chain.from_iterable(((part, row) for row in range(len(part))) for part in parts))
        self.concepts = np.concatenate([part.concepts for part in parts])
        self.labels = np.concatenate([part.labels for part in parts])
        known = [getattr(part, "present", None) or {} for part in parts]
        self.present = {
            name: np.concatenate(
                [own.get(name, np.ones(len(part), bool)) for own, part in zip(known, parts, strict=True)]
            )
            for name in sorted(set().union(*known))
        }
        shared = set.intersection(*(set(getattr(part, "items", None) or {}) for part in parts)) if parts else set()
        each = [items_of(part, sorted(shared)) for part in parts]
        self.items = {name: np.concatenate([own[name] for own in each]) for name in sorted(shared)}

    def __len__(self) -> int:
        return len(self.places)

    def read(self, row: int, modality: str, rng: np.random.Generator | None = None) -> Any:
        """Return the row's value."""
        part, place = self.places[row]
        return part.read(place, modality, rng)

    def texts(self, row: int) -> list[str]:
        """Return the row's texts."""
        return texts_of(*self.places[row])

    def text_items(self, row: int) -> list[int]:
        """Return the item number of each of the row's texts."""
        return text_items_of(*self.places[row])

    def chooses_texts(self, modality: str) -> bool:
        """Return whether some of the samples have rows with several texts."""
        return any(chooses_texts(part, modality) for part in self.parts)

    def where(self, row: int) -> str:
        """Return file and row."""
        part, place = self.places[row]
        return part.where(place)

    def stamp(self) -> str:
        """Return the digests of the files that all rows name, where they name any."""
        return " ".join(getattr(part, "stamp", str)() for part in self.parts)


def in_sequence(
    train: Mapping[str, Samples],
    test: Mapping[str, Samples],
    modalities: Sequence[str],
    classes: Sequence[str],
    fingerprint: str,
    concepts_stated: bool = True,
) -> DataSource:
    """Return the tasks, named as in `train`, one after the other; `test` has the evaluation set of each."""
    ends = np.cumsum([len(samples) for samples in train.values()])
    rows = {name: np.arange(end - len(train[name]), end) for name, end in zip(train, ends, strict=True)}
    splits = {"train": Joined(list(train.values())), **test}
    return DataSource(splits, modalities, classes, fingerprint, tasks=rows, concepts_stated=concepts_stated)
