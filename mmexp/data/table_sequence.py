"""A user's own tables as tasks in sequence."""

from collections.abc import Collection, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from mmexp.data.sequence import in_sequence
from mmexp.data.table import table
from mmexp.data.table_items import number_items
from mmexp.errors import RequestError
from mmexp.types import DataSource, Fraction, PositiveFloat, PositiveInt

# Names under which other numbers are told.
RESERVED = ("train", "val", "start", "continual")


def table_sequence(
    tables: list[str],
    columns: dict[str, str | None],
    tests: list[str] | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    val_fraction: Fraction = 0.1,
    seconds: PositiveFloat = 30.0,
    frames: PositiveInt = 8,
    missing: Literal["raise", "keep"] = "raise",
    kinds: Mapping[str, str] = MappingProxyType({}),
    files: Literal["inside", "anywhere"] = "inside",
    caption_lines: Literal["whole", "each"] = "whole",
    wanted: Collection[str] = (),
    all_labels: bool = False,
) -> DataSource:
    """Return a task for each of `tables`, named by its file and read as by `table`.

    A task is measured on its place in `tests`; without these a share `val_fraction` of each table is held out, as by `table`.
    Concepts of different tables are different, labels of the same name are the same. Raises RequestError for what `table`
    refuses, and for names that tell no two tasks apart.
    """
    names = [Path(path).stem for path in tables]
    _check(names, tables, tests, val_fraction)
    read = partial(
        table,
        on_error=on_error,
        val_fraction=val_fraction,
        seconds=seconds,
        frames=frames,
        missing=missing,
        kinds=kinds,
        files=files,
        caption_lines=caption_lines,
        wanted=wanted,
        all_labels=all_labels,
    )
    train, test, known, digests = {}, {}, [], []
    for place, (name, path) in enumerate(zip(names, tables, strict=True)):
        own = tests[place] if tests else None
        source = read(path, columns, val=own)
        train[name], test[name] = source.splits["train"], source.splits["val"]
        known.append(source.classes)
        digests.append(source.fingerprint)
    classes = list(dict.fromkeys(label for own in known for label in own))
    first = 0
    for name, labels in zip(names, known, strict=True):
        number = np.array([*(classes.index(label) for label in labels), -1])
        for samples in (train[name], test[name]):
            samples.labels = number[samples.labels]
            samples.concepts = samples.concepts + first
        first = 1 + max(train[name].concepts.max(), test[name].concepts.max())
    parts: list[Any] = [*train.values(), *test.values()]
    number_items(parts)
    content = sha256(repr(digests).encode()).hexdigest()[:16]
    return in_sequence(train, test, source.modalities, classes, content, source.concepts_stated)


def _check(names: list[str], tables: list[str], tests: list[str] | None, val_fraction: float) -> None:
    for name, path in zip(names, tables, strict=True):
        if name in RESERVED or names.count(name) > 1:
            raise RequestError(
                f"data.tables: '{path}' would be the task '{name}', which tells nothing. Rename the file."
            )
    if not tables:
        raise RequestError("data.tables: there is no table. Set data.tables=[FIRST.csv,SECOND.csv].")
    if tests is None and not val_fraction:
        raise RequestError("data.val_fraction=0 leaves nothing to measure. Set data.tests=[...], or a share above 0.")
    if tests is not None and len(tests) != len(tables):
        raise RequestError(f"data.tests: {len(tests)} for {len(tables)} tables. Name one for each, in the same order.")
