"""What an encoder knows without any head: whether rows that look alike to it have the same label."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

_ROWS_AT_ONCE = 1024


def neighbour_accuracy(pooled: Tensor, concept: Tensor, label: Tensor) -> float:
    """Return the share of labelled rows whose nearest labelled row, by cosine, has the same label.

    `pooled (N, D)`, `concept`, `label (N,)`, -1 for none. Rows of the query's own concept are no candidates: a second
    picture of one thing would make it easy. The one nearest neighbour of Wu et al. (arXiv:1805.01978), each row against
    all others of the set.
    """
    labelled = label >= 0
    vectors, concept, label = F.normalize(pooled[labelled].float(), dim=-1), concept[labelled], label[labelled]
    right = 0
    for rows in torch.arange(len(vectors)).split(_ROWS_AT_ONCE):
        own = concept[rows, None] == concept[None]
        nearest = (vectors[rows] @ vectors.T).masked_fill(own, -torch.inf).argmax(1)
        right += int((label[nearest] == label[rows]).sum())
    return right / len(label)


def neighbour_metrics(
    pooled: dict[str, Tensor], concept: Tensor, label: Tensor, present: Mapping[str, Tensor] = MappingProxyType({})
) -> dict[str, float]:
    """Return `<modality>_neighbour_accuracy` of every encoder; nothing where fewer than two concepts have a label.

    Of a modality that some rows lack, `present (N,)` by its name, the others count.
    """
    numbers = {}
    for name, tensor in pooled.items():
        there = present.get(name, torch.ones_like(label, dtype=torch.bool))
        if len(concept[there & (label >= 0)].unique()) > 1:
            numbers[f"{name}_neighbour_accuracy"] = neighbour_accuracy(tensor[there], concept[there], label[there])
    return numbers
