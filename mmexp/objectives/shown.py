"""What the rows of a batch show, and how far two of them show the same: all of it, or a share where something was mixed."""

from collections.abc import Collection, Sequence
from itertools import combinations

import torch
from torch import Tensor

from mmexp.step import Views
from mmexp.types import Batch, Shown


def shown(batch: Batch, modality: str) -> Shown:
    """Return what each row shows in one modality: its own concept and label, unless an augmentation says otherwise."""
    own = {"concept": batch["concept"][:, None], "label": batch["label"][:, None]}
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


def agreement(one: Shown, other: Shown) -> Tensor:
    """Return the probability (...) that a concept drawn from `one`, by its shares, equals one drawn from `other`."""
    same = one["concept"][..., :, None] == other["concept"][..., None, :]
    return (same * one["share"][..., :, None] * other["share"][..., None, :]).sum((-2, -1))


def pairwise(views: Views, query: Shown, key: Shown) -> Tensor:
    """Return the agreement (B, K) of every row's query with every key of all processes."""
    keys = {name: views.gather(key[name])[None] for name in ("concept", "share")}
    return agreement({name: tensor[:, None] for name, tensor in query.items()}, keys)


def belongs(parts: Sequence[Shown], there: Sequence[Tensor] = ()) -> Tensor:
    """Return how far the modalities of each row (B,) belong together: the product of their agreements.

    Where some rows lack a modality, `there` says of each part which rows (B,) have it: what is not there agrees with all.
    """
    whole = torch.ones_like(parts[0]["share"][:, 0])
    agreements = [agreement(one, other) for one, other in combinations(parts, 2)]
    for place, (one, other) in enumerate(combinations(there, 2)):
        agreements[place] = agreements[place].where(one & other, 1)
    return torch.stack([whole, *agreements]).prod(0)
