"""Class names of a finished run: labels of other data are mapped to them by name."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mmexp.errors import RequestError
from mmexp.types import DataSource

_NAMED = 5


def with_classes(source: DataSource, classes: Sequence[str], origin: str) -> DataSource:
    """Return `source` with its labels and targets numbered by `classes`, matched by name.

    Labels of other names are taken away, and counted in the notes. Of several labels a row, the others stay; classes that
    the data do not name are no label of any row.

    Args:
        source: data with class names of their own; `labels` and `targets` of their splits are replaced.
        classes: the class names in the order of the head.
        origin: the run that the classes are of, for messages.

    Raises:
        RequestError: the data have labels and none of them is among `classes`.
    """
    if list(source.classes) == list(classes):
        return source
    number = {name: place for place, name in enumerate(classes)}
    place = np.array([*(number.get(name, -1) for name in source.classes), -1])
    notes, labelled, known = [], 0, 0
    for split, samples in source.splits.items():
        unknown = _unknown(samples, source.classes, place)
        own: Any = samples
        if (targets := getattr(samples, "targets", None)) is not None:
            own.targets = _columns(targets, place[:-1], len(classes))
            labelled, known = labelled + int((targets > 0.5).sum()), known + int((own.targets > 0.5).sum())
        labelled += int((samples.labels >= 0).sum())
        own.labels = place[samples.labels]
        known += int((samples.labels >= 0).sum())
        if unknown:
            notes.append(f"{split}: {_told(unknown)} no class of {origin}, and left out")
    if labelled and not known:
        raise RequestError(
            f"none of the labels of the data ({_listed(source.classes)}) is a class of {origin} ({_listed(classes)}). Labels are "
            "matched by name: rename them, or choose another column by data.columns.label."
        )
    return replace(source, classes=list(classes), notes=[*source.notes, *notes])


def _unknown(samples: Any, names: Sequence[str], place: np.ndarray) -> Counter[str]:
    """Return how often each label without a place is there."""
    count: Counter[str] = Counter()
    targets = getattr(samples, "targets", None)
    for label, name in enumerate(names):
        if place[label] < 0:
            there = (samples.labels == label).sum() + (0 if targets is None else (targets[:, label] > 0.5).sum())
            count[name] += int(there)
    return +count


def _columns(targets: np.ndarray, place: np.ndarray, classes: int) -> np.ndarray:
    """Return targets (N, C) of `classes` columns; a row of which nothing is known (NaN) stays so."""
    moved = np.zeros((len(targets), classes), dtype=np.float32)
    moved[np.isnan(targets).all(1)] = np.nan
    moved[:, place[place >= 0]] = targets[:, place >= 0]
    return moved


def _told(unknown: Counter[str]) -> str:
    names = ", ".join(f"'{name}' ({count})" for name, count in unknown.most_common(_NAMED))
    more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
    return f"the label{'s' if len(unknown) > 1 else ''} {names}{more} {'are' if len(unknown) > 1 else 'is'}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
