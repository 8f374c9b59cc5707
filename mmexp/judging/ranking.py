"""Retrieval looked at more closely: mean average precision, and recall by group."""

from collections.abc import Sequence
from itertools import permutations

import torch
from torch import Tensor

from mmexp.judging.said import Judged, gather
from mmexp.tasks.retrieval import first_right
from mmexp.types import Samples

_AT_ONCE = 512


def mean_average_precision(queries: Tensor, keys: Tensor, concept: Tensor) -> float:
    """Return the mean over queries of the precision at each right candidate: `queries`, `keys (N, D)`, `concept (N,)`.

    With one right candidate a query it is the mean reciprocal rank (Manning, Raghavan and Schuetze 2008, section 8.4).
    """
    found = []
    for rows in torch.arange(len(queries)).split(_AT_ONCE):
        order = (queries[rows] @ keys.T).argsort(dim=1, descending=True, stable=True)
        right = (concept[order] == concept[rows, None]).float()
        precision = right.cumsum(1) / torch.arange(1, len(keys) + 1)
        found.append((precision * right).sum(1) / right.sum(1))
    return torch.cat(found).mean().item()


def precision(judged: Judged, samples: Samples) -> dict[str, float]:
    """Return `<query>_to_<key>_map` of every direction, over the rows that have both."""
    gathered = gather(judged, samples)
    vectors, concept, present = gathered.below("vector/"), gathered.stacked()["concept"], gathered.below("present/")
    told = {}
    for query, key in permutations(sorted(vectors), 2):
        rows = _both(present, query, key, len(concept))
        queries, keys = (vectors[name][rows].float() for name in (query, key))
        told[f"{query}_to_{key}_map"] = mean_average_precision(queries, keys, concept[rows])
    return told


def by_group(judged: Judged, samples: Samples, classes: Sequence[str]) -> dict[str, float]:
    """Return by class `<class>/accuracy`, or `<class>/<query>_to_<key>_r1` among all rows; of classes with a row alone."""
    gathered = gather(judged, samples)
    whole, vectors, present = gathered.stacked(), gathered.below("vector/"), gathered.below("present/")
    label = whole["label"]
    told: dict[str, float] = {}
    right = {}
    if "logits" in whole:
        right["accuracy"] = (
            (whole["logits"].argmax(1) == label).float().masked_fill(whole["logits"].isnan().any(1), torch.nan)
        )
    for query, key in permutations(sorted(vectors), 2):
        rows = _both(present, query, key, len(label))
        rank = torch.full((len(label),), torch.nan)
        rank[rows] = (
            first_right(vectors[query][rows].float(), vectors[key][rows].float(), whole["concept"][rows]) <= 1
        ).float()
        right[f"{query}_to_{key}_r1"] = rank
    for number in label[label >= 0].unique().tolist():
        name = classes[number] if number < len(classes) else str(number)
        told |= {f"{name}/{measure}": values[label == number].nanmean().item() for measure, values in right.items()}
    return told


def _both(present: dict[str, Tensor], query: str, key: str, count: int) -> Tensor:
    there = torch.ones(count, dtype=torch.bool)
    for name in (query, key):
        there &= present.get(name, there).bool()
    return there.nonzero().flatten()
