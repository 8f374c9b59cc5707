"""What a model still knows when modalities are missing: every subset of them at test time."""

from collections.abc import Collection, Mapping
from itertools import combinations
from math import factorial

import numpy as np
import torch

from mmexp.data.chosen import ChosenSamples
from mmexp.judging.said import Judged, gather, headline
from mmexp.types import Samples


def only(samples: Samples, kept: Collection[str], names: Collection[str]) -> Samples:
    """Return all rows of a set with the modalities `kept` of those `names` alone."""
    part = ChosenSamples(samples, np.arange(len(samples)))
    part.present |= {name: np.zeros(len(part), dtype=bool) for name in names if name not in kept}
    return part


def subsets(judged: Judged, samples: Samples) -> dict[str, float]:
    """Return `<a>+<b>/<measure>` for every subset of the modalities, the whole one first."""
    names = list(judged.model.encoders)
    told: dict[str, float] = {}
    for count in range(len(names), 0, -1):
        for kept in combinations(names, count):
            if found := headline(gather(judged, only(samples, kept, names)).metrics()):
                told[f"{'+'.join(kept)}/{found[0]}"] = found[1]
    return told


def contributions(judged: Judged, samples: Samples) -> dict[str, float]:
    """Return `<m>/accuracy`: how much of a classifier's accuracy each modality brings, beyond the most frequent class.

    Shapley values over the subsets of modalities; they add up to the accuracy with all less that of `nothing/accuracy`.
    """
    if judged.first_with("classify") is None:
        return {}
    names, found = list(judged.model.encoders), subsets(judged, samples)
    labels = torch.from_numpy(np.asarray(samples.labels))
    labels = labels[labels >= 0]
    if not len(labels):
        return {}
    nothing = labels.bincount().max().item() / len(labels)
    worth = {frozenset(key.split("/")[0].split("+")): value for key, value in found.items()} | {frozenset(): nothing}
    if len(worth) < 2 ** len(names):
        # A classifier that looks at one modality says nothing without it.
        return {}
    return {"nothing/accuracy": nothing, **{f"{name}/accuracy": shapley(name, names, worth) for name in names}}


def shapley(name: str, names: list[str], worth: Mapping[frozenset[str], float]) -> float:
    """Return the mean of what `name` adds, over all orders in which `names` may come (Shapley 1953)."""
    others, total = [one for one in names if one != name], 0.0
    for count in range(len(others) + 1):
        share = factorial(count) * factorial(len(others) - count) / factorial(len(names))
        for before in combinations(others, count):
            total += share * (worth[frozenset({*before, name})] - worth[frozenset(before)])
    return total
