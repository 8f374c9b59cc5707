"""What there is to learn from, counted on the train split alone."""

import numpy as np

from mmexp.shapes import Supervision
from mmexp.types import DataSource


def supervision_of(source: DataSource) -> Supervision:
    """Return which kinds of answers the train split has, how many rows each class, mean and deviation of the numbers."""
    train = source.splits["train"]
    labels, number = train.labels[train.labels >= 0], getattr(train, "number", None)
    if number is not None and np.isnan(number).all():
        # An empty column teaches nothing, as one that is not there.
        number = None
    kinds = {
        "labels": len(labels),
        "targets": getattr(train, "targets", None) is not None,
        "number": number is not None,
    }
    return Supervision(
        kinds=frozenset(kind for kind, there in kinds.items() if there),
        classes=source.classes,
        counts=np.bincount(labels, minlength=len(source.classes)).tolist(),
        mean=0.0 if number is None else float(np.nanmean(number)),
        # A column that is the same everywhere has no deviation to divide by.
        deviation=1.0 if number is None else float(np.nanstd(number)) or 1.0,
    )
