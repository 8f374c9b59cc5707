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
        notes += [*_unknown(split, samples), *_alike(split, samples), *_one_class(split, samples, classes)]
        notes += [*_one_number(split, samples), *_lists_as_texts(split, samples)]
        notes += _shared(split, samples, train) if split != "train" else _repeated(samples)
    return notes


def _unknown(split: str, samples: TableSamples) -> list[str]:
    """Return how many rows lack what is learned and measured: metrics of labels and numbers are of the other rows."""
    lacking = {
        "label": samples.labels < 0 if samples.targets is None else np.isnan(samples.targets).all(1),
        "number": np.zeros(0) if samples.number is None else np.isnan(samples.number),
    }
    return [
        f"{own.sum()} of the {len(own)} rows of {split} have no {name}"
        for name, own in lacking.items()
        if 0 < own.sum() < len(own)
    ]


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


def _one_number(split: str, samples: TableSamples) -> list[str]:
    known = [] if samples.number is None else samples.number[~np.isnan(samples.number)]
    if len(known) < 2 or len(np.unique(known)) > 1:
        return []
    return [f"all {len(known)} numbers of {split} are {known[0]:g}: R² cannot be measured there"]


def _lists_as_texts(split: str, samples: TableSamples) -> list[str]:
    """Return a note where cells of text are written as lists, which a table of text cells cannot hold."""
    if samples.kinds.get("text") != "text":
        return []
    texts = [samples.cell(row, "text") for row in range(len(samples)) if samples.has(row, "text")]
    written = sum(
        isinstance(text, str) and text.strip()[:2] in ('["', "['") and text.strip()[-1] == "]" for text in texts
    )
    if written < max(1, len(texts) // 2):
        return []
    return [
        f"{written} of the {len(texts)} texts of {split} are written as lists, and each is read as one text: several captions "
        "a cell need JSON lines, an array of JSON or Parquet"
    ]


def _shared(split: str, samples: TableSamples, train: TableSamples) -> list[str]:
    notes = []
    for name, own in samples.items.items():
        there = own[own >= 0]
        common = int(np.isin(there, train.items[name]).sum())
        if common and samples.kinds[name] != "text":
            one = _named(samples, name, plural=False)
            notes.append(f"{common} of the {len(there)} rows of {split} with a {one} have one that is in train too")
    return notes


def _repeated(train: TableSamples) -> list[str]:
    whole = np.stack(list(train.items.values()), 1)
    repeated = len(whole) - len(np.unique(whole, axis=0))
    return [f"{repeated} of the {len(whole)} rows of train repeat another row in all modalities"] if repeated else []


def _named(samples: TableSamples, name: str, plural: bool = True) -> str:
    word = _NAMES[samples.kinds[name]]
    word = word if plural else word.removesuffix("s")
    return word if name in _NAMES else f"{word} '{name}'"
