"""What the rows of a batch show, and how far two of them show the same: all of it, or a share where something was mixed."""

from collections.abc import Collection, Sequence
from itertools import combinations

import torch
from torch import Tensor

from mmexp.types import Batch, Shown, Views


def shown(batch: Batch, modality: str) -> Shown:
    """Return what each row shows in one modality: its own concept and label, unless an augmentation says otherwise."""
    own = {"concept": batch["concept"][:, None], "label": batch["label"][:, None]}
    return batch.get("shown", {}).get(modality) or {**own, "share": torch.ones_like(own["concept"], dtype=torch.float)}


def shown_at_once(batch: Batch, modalities: Collection[str]) -> Shown:
    """Return what each row shows in all modalities together, each counting the same."""
    parts = [shown(batch, modality) for modality in modalities]
    whole = {name: torch.cat([part[name] for part in parts], 1) for name in ("concept", "label", "share")}
    return {**whole, "share": whole["share"] / len(parts)}


def agreement(one: Shown, other: Shown) -> Tensor:
    """Return the probability (...) that a concept drawn from `one`, by its shares, equals one drawn from `other`."""
    same = one["concept"][..., :, None] == other["concept"][..., None, :]
    return (same * one["share"][..., :, None] * other["share"][..., None, :]).sum((-2, -1))


def pairwise(views: Views, query: Shown, key: Shown) -> Tensor:
    """Return the agreement (B, K) of every row's query with every key of all processes."""
    keys = {name: views.gather(key[name])[None] for name in ("concept", "share")}
    return agreement({name: tensor[:, None] for name, tensor in query.items()}, keys)


def belongs(parts: Sequence[Shown]) -> Tensor:
    """Return how far the modalities of each row (B,) belong together: the product of their agreements."""
    whole = torch.ones_like(parts[0]["share"][:, 0])
    return torch.stack([whole, *(agreement(one, other) for one, other in combinations(parts, 2))]).prod(0)
