"""Few labels: what semi-supervision starts from. Few shots: what transfer is measured by. A fraction: less of everything."""

from dataclasses import replace

import numpy as np

from mmexp.data.chosen import ChosenSamples
from mmexp.draws import RowDraws
from mmexp.errors import RequestError
from mmexp.types import DataSource


def keep_labels(labels: np.ndarray, per_class: int | None) -> np.ndarray:
    """Return `labels (N,)` with all but `per_class` of each class taken away (-1); None keeps all.

    Which rows keep theirs is the same in every run: it does not depend on the seed. Raises RequestError where no row has one.
    """
    if per_class is None:
        return labels
    if not (labels >= 0).any():
        raise RequestError("data.labels_per_class: no row of train has a label, or each has several. Leave it null.")
    kept = np.full_like(labels, -1)
    # Draws of its own: a generator of seed 0 would give the order of the first epoch, and its first batches all labels.
    rows = drawn_rows(labels, per_class, 0, "labelled")
    kept[rows] = labels[rows]
    return kept


def few_shots(source: DataSource, shots: int, seed: int) -> DataSource:
    """Return `source` with `shots` rows of each class left of `train`, all of a class that has fewer.

    Which rows is a function of `seed`, so that seeds vary the draw; those of fewer shots are among those of more. Raises
    RequestError where no row has a label.
    """
    train = source.splits["train"]
    if not (train.labels >= 0).any():
        raise RequestError("data.shots: no row of train has a label, or each has several. Leave it null.")
    few = ChosenSamples(train, drawn_rows(train.labels, shots, seed, "shots"))
    return replace(source, splits={**source.splits, "train": few}, fingerprint=f"{source.fingerprint}-{shots}-{seed}")


def fraction_of(source: DataSource, fraction: float, seed: int) -> DataSource:
    """Return `source` with this share (0 to 1) of the rows of `train`, one at least.

    Which rows is a function of `seed`; those of a smaller fraction are among those of a larger one.
    """
    train = source.splits["train"]
    order = RowDraws(seed, 0, range(len(train)))("fraction", 1)[:, 0].argsort(kind="stable")
    part = ChosenSamples(train, np.sort(order[: max(1, round(fraction * len(train)))]))
    return replace(
        source, splits={**source.splits, "train": part}, fingerprint=f"{source.fingerprint}-{fraction}-{seed}"
    )


def drawn_rows(labels: np.ndarray, per_class: int, seed: int, name: str) -> np.ndarray:
    """Return in ascending order `per_class` rows of each class of `labels (N,)`, by the draws of `seed` and `name`."""
    order = RowDraws(seed, 0, range(len(labels)))(name, 1)[:, 0].argsort(kind="stable")
    rows = [order[labels[order] == label][:per_class] for label in np.unique(labels[labels >= 0])]
    return np.sort(np.concatenate(rows))
