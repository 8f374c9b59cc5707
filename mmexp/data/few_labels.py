"""Few labels: what semi-supervision starts from."""

import numpy as np

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
    order = np.random.default_rng(0).permutation(len(labels))
    for label in np.unique(labels[labels >= 0]):
        rows = order[labels[order] == label][:per_class]
        kept[rows] = label
    return kept
