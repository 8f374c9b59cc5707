"""What an encoder knows without any head: whether rows that look alike to it have the same label."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

_ROWS_AT_ONCE = 1024


def neighbour_accuracy(pooled: Tensor, concept: Tensor, label: Tensor, item: Tensor | None = None) -> float:
    """Return the share of labelled rows whose nearest labelled row, by cosine, has the same label.

    This is the one nearest neighbour of Wu et al. (arXiv:1805.01978), each row against all others of the set. Rows of the
    query's own concept are no candidates, since a second picture of one thing would make it easy; nor are rows that hold
    the same item. A row without any candidate does not count. Of candidates that are equally near each counts by its share.

    Args:
        pooled: features (N, D).
        concept: (N,) equal where rows show the same thing.
        label: (N,), -1 where there is none.
        item: (N,) equal where rows hold the same item; None where all are distinct.
    """
    labelled = label >= 0
    vectors, concept, label = F.normalize(pooled[labelled].double(), dim=-1), concept[labelled], label[labelled]
    item = torch.arange(len(label)) if item is None else item[labelled]
    right, counted = 0.0, 0
    for rows in torch.arange(len(vectors)).split(_ROWS_AT_ONCE):
        own = (concept[rows, None] == concept[None]) | (item[rows, None] == item[None])
        score = (vectors[rows] @ vectors.T).float().nan_to_num(nan=-2.0).masked_fill(own, -torch.inf)
        nearest = (score == score.amax(1, keepdim=True)) & ~own
        same = (nearest & (label[rows, None] == label[None])).sum(1) / nearest.sum(1).clamp_min(1)
        right, counted = right + same.double().sum().item(), counted + int((~own).any(1).sum())
    return right / max(counted, 1)


def neighbour_metrics(
    pooled: Mapping[str, Tensor],
    concept: Tensor,
    label: Tensor,
    present: Mapping[str, Tensor] = MappingProxyType({}),
    items: Mapping[str, Tensor] = MappingProxyType({}),
) -> dict[str, float]:
    """Return `<modality>_neighbour_accuracy` of every encoder; nothing where fewer than two concepts or items have a label.

    Of a modality that some rows lack, `present (N,)` by its name, the others count. `items (N,)` by modality are equal where
    two rows hold the same item. The other arguments are those of `neighbour_accuracy`.
    """
    numbers = {}
    for name, tensor in pooled.items():
        there = present.get(name, torch.ones_like(label, dtype=torch.bool))
        known, item = there & (label >= 0), items.get(name, torch.arange(len(label)))
        if min(len(concept[known].unique()), len(item[known].unique())) > 1:
            numbers[f"{name}_neighbour_accuracy"] = neighbour_accuracy(
                tensor[there], concept[there], label[there], item[there]
            )
    return numbers
