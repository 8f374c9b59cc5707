"""Which rows of a user's tables are of one concept, and which hold the same item of a modality."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mmexp.data.items import MISSING, stored_items, text_item
from mmexp.data.stored import is_empty
from mmexp.data.table_rows import TableSamples, text_of


def number_concepts(splits: Iterable[TableSamples]) -> None:
    """Number the concepts of all splits: rows with equal cells in the concept column have one, every other row its own."""
    number: dict[Any, int] = {}
    for place, samples in enumerate(splits):
        stated = "concept" in samples.columns
        keys = [_concept(samples.cell(row, "concept")) if stated else None for row in range(len(samples))]
        each = [(place, row) if key is None else key for row, key in enumerate(keys)]
        samples.concepts = np.array([number.setdefault(key, len(number)) for key in each], dtype=np.int64)


def _concept(cell: Any) -> str | None:
    """Return a cell of the concept column as text, None where it is empty."""
    return None if is_empty(cell) or cell != cell else str(cell)


def number_items(splits: Sequence[TableSamples]) -> None:
    """Set `items` of all splits, numbered alike in all: equal where rows hold the same text, picture, sound or video."""
    ends = np.cumsum([len(samples) for samples in splits])[:-1]
    for name, kind in splits[0].kinds.items():
        if kind == "text":
            numbers = np.array([_text_item(samples, row, name) for samples in splits for row in range(len(samples))])
        else:
            numbers = stored_items([samples.stored(row, name) for samples in splits for row in range(len(samples))])
        for samples, own in zip(splits, np.split(numbers.astype(np.int64), ends), strict=True):
            samples.items[name] = own


def _text_item(samples: TableSamples, row: int, name: str) -> int:
    return text_item(text_of(samples.cell(row, name))) if samples.has(row, name) else MISSING
