"""What the rows of a batch show, and how far two of them show the same: all of it, or a share where something was mixed.

A row's value of modality a and another row's value of modality b are a positive pair where both rows have the same concept, the
same item of a or the same item of b. The relation is not continued through further rows.
"""

from collections.abc import Collection, Mapping
from itertools import combinations

import torch
from torch import Tensor

from mmexp.step import Views
from mmexp.types import Batch, Shown, identity


def shown(batch: Batch, modality: str) -> Shown:
    """Return what each row shows in one modality: its own concept, label and items, unless an augmentation says otherwise."""
    own = {name: value[:, None] for name, value in identity(batch).items()}
    return batch.get("shown", {}).get(modality) or {**own, "share": torch.ones_like(own["concept"], dtype=torch.float)}


def shown_at_once(batch: Batch, modalities: Collection[str]) -> Shown:
    """Return what each row shows in all modalities together, each that it has counting the same."""
    parts, present = [shown(batch, modality) for modality in modalities], batch.get("present", {})
    whole = {name: torch.cat([part[name] for part in parts], 1) for name in ("concept", "label", "share")}
    if not any(modality in present for modality in modalities):
        return {**whole, "share": whole["share"] / len(parts)}
    everywhere = torch.ones_like(batch["index"], dtype=torch.bool)
    there = [present.get(modality, everywhere)[:, None] for modality in modalities]
    counted = torch.cat([own.expand_as(part["share"]) for own, part in zip(there, parts, strict=True)], 1)
    return {**whole, "share": whole["share"] * counted / torch.cat(there, 1).sum(1, keepdim=True).clamp_min(1)}


def related_items(views: Views, modalities: Collection[str]) -> list[str]:
    """Return the modalities in which equal items are not all of one concept, so that comparing items finds more positives.

    It is decided by the rows of all processes. A modality in which no two rows of a batch hold the same item, or only rows of
    one concept do, costs no comparison of every row with every other.
    """
    items, concept = views.batch.get("items", {}), views.gather(views.batch["concept"])
    return [name for name in modalities if name in items and _crosses(views.gather(items[name]), concept)]


def _crosses(item: Tensor, concept: Tensor) -> bool:
    """Return whether any two rows hold the same item and have different concepts."""
    item, order = item.sort(stable=True)
    concept = concept.index_select(0, order)
    return bool(((item[1:] == item[:-1]) & (item[1:] >= 0) & (concept[1:] != concept[:-1])).any())


def compared(items: Collection[str]) -> list[str]:
    """Return the entries of `Shown` that are compared, for a pair of modalities of which the `items` count."""
    return ["concept", *(f"item/{name}" for name in items)]


def as_keys(part: Shown) -> Shown:
    """Return what rows show, to be compared with that of queries: what a row lacks equals nothing."""
    return {name: value.where(value >= 0, -2) if name.startswith("item/") else value for name, value in part.items()}


def agreement(one: Shown, other: Shown, items: Collection[str] = ()) -> Tensor:
    """Return the probability (...) that something drawn from `one`, by its shares, and something drawn from `other` are related.

    They are where their concepts are equal, or their items of one of the modalities `items`.
    """
    other = as_keys(other)
    names = [name for name in compared(items) if name in one and name in other]
    same = torch.stack([one[name][..., :, None] == other[name][..., None, :] for name in names]).any(0)
    return (same * one["share"][..., :, None] * other["share"][..., None, :]).sum((-2, -1))


def gathered(views: Views, part: Shown, items: Collection[str]) -> Shown:
    """Return the compared entries and the shares of what the rows of all processes show."""
    return {name: views.gather(part[name]) for name in (*compared(items), "share")}


def pairwise(query: Shown, key: Shown, items: Collection[str] = ()) -> Tensor:
    """Return the agreement (B, K) of every row's query with every key."""
    return agreement({n: t[:, None] for n, t in query.items()}, {n: t[None] for n, t in key.items()}, items)


def belongs(parts: Mapping[str, Shown], there: Mapping[str, Tensor] | None = None) -> Tensor:
    """Return how far the modalities of each row (B,) belong together: the product of their agreements.

    Args:
        parts: by modality what each row shows.
        there: by modality which rows (B,) have it, where some lack one: what is not there agrees with all.
    """
    found = [torch.ones_like(next(iter(parts.values()))["share"][:, 0])]
    for a, b in combinations(parts, 2):
        both = agreement(parts[a], parts[b], (a, b))
        found.append(both if there is None else both.where(there[a] & there[b], 1))
    return torch.stack(found).prod(0)
