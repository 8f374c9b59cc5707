"""Retrieval looked at more closely: mean average precision, and recall by group."""

from collections.abc import Sequence

import numpy as np
import torch

from mmexp.judging.said import Judged, gather
from mmexp.tasks.ranks import average_precision, ranks
from mmexp.tasks.retrieval import Direction
from mmexp.types import Samples


def precision(judged: Judged, samples: Samples) -> dict[str, float]:
    """Return the mean average precision `<query>_to_<key>_map` of every direction, over distinct items."""
    return {
        f"{query}_to_{key}_map": average_precision(way.query.vectors, way.key.vectors, way.relevant).mean().item()
        for query, key, way in gather(judged, samples).directions()
    }


def by_group(judged: Judged, samples: Samples, classes: Sequence[str]) -> dict[str, float]:
    """Return by class `<class>/accuracy` over its rows and `<class>/<query>_to_<key>_r1` over its queries.

    Candidates are those of the whole set. A query is of each class that a row which holds it has.
    """
    gathered = gather(judged, samples)
    whole = gathered.stacked()
    label = whole["label"]
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    if "logits" in whole:
        known = ~whole["logits"].isnan().any(1)
        right = (whole["logits"].argmax(1) == label).double()
        found["accuracy"] = label[known].numpy(), right[known].numpy()
    for query, key, way in gathered.directions():
        found[f"{query}_to_{key}_r1"] = _by_class(way, label.numpy())
    values: dict[str, float] = {}
    for number in label[label >= 0].unique().tolist():
        name = classes[number] if number < len(classes) else str(number)
        for measure, (own, value) in found.items():
            values[f"{name}/{measure}"] = float(value[own == number].mean()) if (own == number).any() else torch.nan
    return values


def _by_class(way: Direction, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return classes and recalls at 1 of the queries of a direction, a query once for each of its classes."""
    recall = ranks(way.query.vectors, way.key.vectors, way.relevant).recall(1).numpy()
    number, row = way.query.of_row
    number, own = np.unique(np.stack([number, label[row]]), axis=1)
    return own, recall[number]
