"""Validation rows out of a user's train table, and in words how they were chosen."""

import numpy as np

from mmexp.data.items import MISSING
from mmexp.data.splitting import WAY_OUT, groups_of, held_out, merged, strata_of
from mmexp.data.table_rows import TableSamples
from mmexp.errors import RequestError


def with_validation(train: TableSamples, fraction: float) -> tuple[dict[str, TableSamples], str]:
    """Return `train` and `val`, of which `val` has a `fraction` of the rows, and a line that says how they were split.

    Rows with the same picture, sound or video stay together. With labels, several labels or numbers, rows are stratified by
    these; rows of one stated concept stay together as far as no group grows beyond the wanted share, and texts are ignored.
    Without, rows of one stated concept stay together, or where none is stated, rows of the same text as far as that.

    Raises:
        RequestError: the rows cannot be split so.
    """
    strata = strata_of(train.labels, train.targets, train.number)
    stated = "concept" in train.columns
    files = {name: own for name, own in train.items.items() if train.kinds[name] != "text"}
    texts = {name: _texts(train, name) for name in train.items if train.kinds[name] == "text"}
    largest = max(1, round(fraction * len(train)))
    if strata is not None:
        groups = groups_of(files, len(train))
        groups = merged(groups, train.concepts, largest) if stated else groups
    elif stated:
        groups = groups_of({"concept": train.concepts}, len(train))
    else:
        groups = groups_of(files, len(train))
        for own, rows in texts.values():
            groups = merged(groups, own, largest, rows)
    held = held_out(groups, fraction, strata)
    if strata is not None and not (strata[held] >= 0).any():
        raise RequestError(
            f"no row with a label or number can be held out of the {len(train)} rows of train. {WAY_OUT}"
        )
    by = ["concept"] if stated else [*files, *(() if strata is not None else texts)]
    how = _described(train, held, by if len(np.unique(groups)) < len(groups) else [], strata is not None)
    return {"train": train.chosen(np.flatnonzero(~held)), "val": train.chosen(np.flatnonzero(held))}, how


def _texts(train: TableSamples, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the items of all texts (M,) and the row of each (M,): every caption of a list cell counts by itself."""
    every = np.arange(len(train))
    if name != "text":
        return train.items[name], every
    each = [
        train.text_items(int(row)) if there else [MISSING]
        for row, there in zip(every, train.items[name] >= 0, strict=True)
    ]
    return np.array([item for items in each for item in items], dtype=np.int64), np.repeat(every, list(map(len, each)))


def _described(train: TableSamples, held: np.ndarray, by: list[str], stratified: bool) -> str:
    answer = "label" if train.targets is not None or (train.labels >= 0).any() else "target"
    parts = [f"stratified by {answer}"] if stratified else []
    parts += [f"grouped by {' and '.join(by)}"] if by else []
    if "text" in train.items and not (stratified and set(train.kinds.values()) - {"text"}):
        own, rows = _texts(train, "text")
        common = len(np.intersect1d(own[held[rows] & (own >= 0)], own[~held[rows]]))
        parts += [f"{common} {'texts are' if common > 1 else 'text is'} in both"] if common else []
    what = f": {', '.join(parts)}" if parts else ""
    return f"val is {held.sum():,} of the {len(train):,} rows of train{what}"
