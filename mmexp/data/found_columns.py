"""Columns that a table has without being asked for: the labels of class folders, and labels that an objective needs."""

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from mmexp.data.chosen import texts_of
from mmexp.data.table_rows import TableSamples
from mmexp.data.tables import Table

AUTO = "auto"
# A text names the label where this share of the labelled rows holds its words.
_NAMED = 0.95
_WORD = re.compile(r"[^\W_]+")

Columns = Mapping[str, str | None]


def found_columns(columns: Columns, train: Table, wanted: Collection[str]) -> tuple[Columns, list[str]]:
    """Return `columns` with `auto` resolved, and notes on what was found or is not there.

    `label: auto` is the column `label` of class folders, and of other tables where labels are `wanted`. In class folders
    without a .txt beside any file there are no captions.
    """
    notes, found = [], dict(columns)
    if found.get("label") == AUTO and AUTO not in train.columns:
        there = "label" in train.columns and (train.class_folder or bool({"labels", "targets"} & set(wanted)))
        found["label"] = "label" if there else None
        if there:
            what = "the sub-folders" if train.class_folder else "the column 'label'"
            notes.append(f"labels of '{train.name}': {what} (data.columns.label)")
    if train.class_folder and found.get("text") == "caption" and "caption" not in train.columns:
        found["text"] = None
        notes.append(f"'{train.name}' has no captions (no .txt beside a file): there is no text to read")
    return found, notes


def names_label(samples: TableSamples, classes: Sequence[str]) -> str | None:
    """Return a note where nearly all texts hold the name of their row's label, so that a head that reads them is given it."""
    rows = [row for row in np.flatnonzero(samples.labels >= 0).tolist() if samples.has(row, "text")]
    if len(classes) < 2 or not rows:
        return None
    names = [_words(name) for name in classes]
    named = sum(any(names[samples.labels[row]] in _words(text) for text in texts_of(samples, row)) for row in rows)
    if named < _NAMED * len(rows):
        return None
    return (
        f"the text (data.columns.text={samples.columns['text']}) holds the label's own name in {named / len(rows):.0%} of the "
        "labelled rows: a head whose source is text or fused is given the answer, one with source=image is not. "
        "data.columns.text=null leaves the texts out."
    )


def _words(text: str) -> str:
    """Return the words of a text in lower case, a space around each."""
    return f" {' '.join(_WORD.findall(text.casefold()))} "
