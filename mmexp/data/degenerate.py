"""Notes on data by which little or nothing can be measured: rows that are alike, repeated, or in train and test both."""

from collections.abc import Mapping, Sequence

import numpy as np

from mmexp.data.table_rows import TableSamples

_NAMES = {"image": "pictures", "text": "texts", "audio": "sounds", "video": "videos"}


def degenerate_notes(splits: Mapping[str, TableSamples], classes: Sequence[str]) -> list[str]:
    """Return a line for each split of which some metric says nothing, or too much."""
    train = splits["train"]
    notes = []
    for split, samples in splits.items():
        notes += [*_alike(split, samples), *_one_class(split, samples, classes)]
        notes += _shared(split, samples, train) if split != "train" else _repeated(samples)
    return notes


def _alike(split: str, samples: TableSamples) -> list[str]:
    if len(samples) == 1:
        return [f"{split} has a single row: there is nothing to tell it from"]
    counts = {name: own[own >= 0] for name, own in samples.items.items()}
    return [
        f"all {len(own)} {_named(samples, name)} of {split} are alike: nothing can be found by them"
        for name, own in counts.items()
        if len(own) > 1 and len(np.unique(own)) == 1
    ]


def _one_class(split: str, samples: TableSamples, classes: Sequence[str]) -> list[str]:
    known = samples.labels[samples.labels >= 0]
    if len(known) < 2 or len(np.unique(known)) > 1:
        return []
    return [
        f"all {len(known)} labelled rows of {split} are of the class '{classes[known[0]]}': accuracy tells nothing there"
    ]


def _shared(split: str, samples: TableSamples, train: TableSamples) -> list[str]:
    notes = []
    for name, own in samples.items.items():
        there = own[own >= 0]
        common = int(np.isin(there, train.items[name]).sum())
        if common and samples.kinds[name] != "text":
            notes.append(f"{common} of the {len(there)} {_named(samples, name)} of {split} are in train too")
    return notes


def _repeated(train: TableSamples) -> list[str]:
    whole = np.stack(list(train.items.values()), 1)
    repeated = len(whole) - len(np.unique(whole, axis=0))
    return [f"{repeated} of the {len(whole)} rows of train repeat another row in all modalities"] if repeated else []


def _named(samples: TableSamples, name: str) -> str:
    plural = _NAMES[samples.kinds[name]]
    return plural if name in _NAMES else f"{plural} '{name}'"
