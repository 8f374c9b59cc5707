"""What a model still knows when modalities are missing: every subset of them at test time."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from math import factorial
from types import MappingProxyType

import torch

from mmexp.judging.said import Judged, headline
from mmexp.tasks.evaluation import Gathered
from mmexp.tasks.retrieval import Captions
from mmexp.tasks.said import said_of
from mmexp.tasks.views import StepViews, Without
from mmexp.types import Batch


@torch.inference_mode()
def subsets(
    judged: Judged, batches: Iterable[Batch], captions: Mapping[str, Captions] = MappingProxyType({})
) -> dict[str, Gathered]:
    """Return what a model says where nothing but `<a>+<b>` is there, for every subset of the modalities, the whole one first.

    Each row is encoded once: an encoder knows nothing of the others. `captions` are the texts of rows that have several.
    """
    judged.model.eval()
    names = list(judged.model.encoders)
    chosen = [kept for count in range(len(names), 0, -1) for kept in combinations(names, count)]
    found = {"+".join(kept): Gathered() for kept in chosen}
    for batch in batches:
        whole = StepViews(judged.model, batch, 0, 0, lambda tensor: tensor)
        for kept, into in zip(chosen, found.values(), strict=True):
            into.add({}, said_of(Without(whole, kept), judged.heads), len(batch["index"]))
    for into in found.values():
        into.captions = dict(captions)
    return found


def told(found: Mapping[str, Gathered]) -> dict[str, float]:
    """Return `<a>+<b>/<measure>` of every subset."""
    numbers = {name: headline(gathered.metrics()) for name, gathered in found.items()}
    return {f"{name}/{number[0]}": number[1] for name, number in numbers.items() if number}


def contributions(judged: Judged, batches: Iterable[Batch]) -> dict[str, float]:
    """Return `<m>/accuracy`: how much of a classifier's accuracy each modality brings, beyond the most frequent class.

    Shapley values over the subsets of modalities; they add up to the accuracy with all less that of `nothing/accuracy`.
    """
    if judged.first_with("classify") is None:
        return {}
    names, found = list(judged.model.encoders), subsets(judged, batches)
    labels = next(iter(found.values())).stacked()["label"]
    labels = labels[labels >= 0]
    if not len(labels):
        return {}
    nothing = labels.bincount().max().item() / len(labels)
    worth = {frozenset(key.split("/")[0].split("+")): value for key, value in told(found).items()}
    worth |= {frozenset(): nothing}
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
