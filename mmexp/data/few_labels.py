"""Few labels: what semi-supervision starts from."""

import numpy as np

from mmexp.draws import RowDraws
from mmexp.errors import RequestError


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
    order = RowDraws(0, 0, range(len(labels)))("labelled", 1)[:, 0].argsort(kind="stable")
    for label in np.unique(labels[labels >= 0]):
        rows = order[labels[order] == label][:per_class]
        kept[rows] = label
    return kept
