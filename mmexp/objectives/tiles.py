"""Contrastive losses of large batches, tile by tile: memory grows with the rows, not with their square.

Both are exact: values and gradients are those of `info_nce` and `sigmoid_loss` but for the order in which fp32 adds up.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from mmexp.objectives.shown import as_keys, compared, pairwise
from mmexp.types import Shown

# Rows of queries and of keys in a tile: 4 MB of similarities stay in a processor's cache.
TILE = 1024
# Similarities from which on tiles are faster than the whole matrix (scripts/bench losses), and 16 MB are spared.
LARGE = 2048 * 2048
# The least sum of exponentials that fp32 holds exactly enough, whose smallest number is 1e-38.
LEAST = 1e-28


@dataclass(frozen=True)
class Right:
    """How right each key is for each query, from 0 to 1, told tile by tile; with `wholly` any agreement counts as 1.

    `items` are the modalities whose equal items make a pair right, beside equal concepts.
    """

    query: Shown
    key: Shown
    wholly: bool = False
    items: Sequence[str] = ()

    def tile(self, rows: slice, columns: slice) -> Tensor | None:
        """Return the agreement (R, C) of some queries with some keys, None where there is none."""
        names = compared(self.items)
        own, keys = (
            {name: part[name][chosen] for name in (*names, "share")}
            for part, chosen in ((self.query, rows), (as_keys(self.key), columns))
        )
        if own["concept"].shape[1] == keys["concept"].shape[1] == 1:
            # Sorting both is a tenth of comparing each with each, and off the diagonal seldom two agree.
            meet = [name for name in names if torch.isin(own[name], keys[name]).any()]
            if not meet:
                return None
            same = torch.stack([own[name] == keys[name].T for name in meet]).any(0)
            return same.float() if self.wholly else same * own["share"] * keys["share"].T
        found = pairwise(own, keys, self.items)
        return (found > 0).float() if self.wholly else found


def _slices(count: int) -> Iterator[slice]:
    yield from (slice(start, min(start + TILE, count)) for start in range(0, count, TILE))


def _tiles(queries: Tensor, keys: Tensor) -> Iterator[tuple[slice, slice]]:
    yield from ((rows, columns) for rows in _slices(len(queries)) for columns in _slices(len(keys)))


class _Sums:
    """What a softmax over each of `count` queries needs of all `keys`: filled tile by tile, (count,) each."""

    def __init__(self, like: Tensor, count: int, keys: int, smoothing: float):
        self.every, self.right, self.total = like.new_zeros(3, count).unbind()
        self.log_sum = like.new_full((count,), float("-inf"))
        self.keys, self.smoothing = keys, smoothing

    def add(self, own: slice, logits: Tensor, log_sum: Tensor, right: Tensor | None, axis: int) -> None:
        """Take in a tile whose keys lie along `axis`, and its `logits.logsumexp(axis)`."""
        self.log_sum[own] = torch.logaddexp(self.log_sum[own], log_sum)
        if self.smoothing:
            self.every[own] += logits.sum(axis)
        if right is not None:
            self.right[own] += (right * logits).sum(axis)
            self.total[own] += right.sum(axis)

    def loss(self) -> Tensor:
        """Return the mean over queries; one without positives counts as 0."""
        found = (1 - self.smoothing) * self.right / self.total.clamp_min(1e-12) - self.log_sum
        found = found + self.smoothing * self.every / self.keys
        return -torch.where(self.total > 0, found, 0).mean()

    def gradient(self, own: slice, logits: Tensor, right: Tensor | None, axis: int) -> Tensor:
        """Return that of the loss to a tile's logits (R, C)."""
        counts = (self.total[own] > 0) / len(self.total)
        found = (logits - self.log_sum[own].unsqueeze(axis)).exp_()
        if self.smoothing:
            found -= self.smoothing / self.keys
        if right is not None:
            found -= right * ((1 - self.smoothing) / self.total[own].clamp_min(1e-12)).unsqueeze(axis)
        return found.mul_(counts.unsqueeze(axis))


def _log_sums(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return `logsumexp` of a tile (R, C) over keys (R,) and over queries (C,), whose exponentials are the same."""
    top = logits.amax()
    exponentials = (logits - top).exp_()
    sums = exponentials.sum(1), exponentials.sum(0)
    if torch.cat(sums).amin() < LEAST:
        return logits.logsumexp(1), logits.logsumexp(0)
    return sums[0].log() + top, sums[1].log() + top


class _InfoNCE(Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, scale: Tensor, right: Right, smoothing: float, both_ways: bool
    ) -> Tensor:
        sides = [_Sums(queries, len(queries), len(keys), smoothing)]
        sides += [_Sums(queries, len(keys), len(queries), smoothing)] if both_ways else []
        with torch.autocast(queries.device.type, enabled=False):
            for tile in _tiles(queries, keys):
                logits, own = scale * (queries[tile[0]] @ keys[tile[1]].T), right.tile(*tile)
                log_sums = _log_sums(logits) if both_ways else (logits.logsumexp(1),)
                for axis, (side, part, log_sum) in enumerate(zip(sides, tile, log_sums, strict=False)):
                    side.add(part, logits, log_sum, own, 1 - axis)
        ctx.save_for_backward(queries, keys, scale)
        ctx.sides, ctx.right = sides, right
        return torch.stack([side.loss() for side in sides]).mean()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        queries, keys, scale = ctx.saved_tensors
        of_queries, of_keys, of_scale = torch.zeros_like(queries), torch.zeros_like(keys), torch.zeros_like(scale)
        with torch.autocast(queries.device.type, enabled=False):
            for tile in _tiles(queries, keys):
                rows, columns = tile
                logits, own = scale * (queries[rows] @ keys[columns].T), ctx.right.tile(*tile)
                parts = zip(ctx.sides, tile, strict=False)
                found = [side.gradient(part, logits, own, 1 - axis) for axis, (side, part) in enumerate(parts)]
                of_logits = found[0].add_(found[1]) if len(found) > 1 else found[0]
                of_queries[rows] += of_logits @ keys[columns]
                of_keys[columns] += of_logits.T @ queries[rows]
                of_scale += (of_logits.flatten() @ logits.flatten()) / scale
        share = upstream[0] / len(ctx.sides)
        return share * scale * of_queries, share * scale * of_keys, share * of_scale, None, None, None


def tiled_info_nce(
    queries: Tensor,
    keys: Tensor,
    scale: Tensor | float,
    right: Right,
    label_smoothing: float = 0.0,
    both_ways: bool = False,
) -> Tensor:
    """Return what `info_nce` does of unit vectors `queries (B, D)`, `keys (K, D)`; `both_ways` the mean with that of the keys."""
    scale = torch.as_tensor(scale, dtype=torch.float, device=queries.device)
    return _InfoNCE.apply(queries.float(), keys.float(), scale, right, label_smoothing, both_ways)


class _Sigmoid(Function):
    """Its gradients need no sum over the whole: they are found on the way forward, from the same similarities."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, scale: Tensor, bias: Tensor, right: Right) -> Tensor:
        loss, of_scale, of_bias = queries.new_zeros(3).unbind()
        of_queries, of_keys = torch.zeros_like(queries), torch.zeros_like(keys)
        with torch.autocast(queries.device.type, enabled=False):
            for rows, columns in _tiles(queries, keys):
                same, own = queries[rows] @ keys[columns].T, right.tile(rows, columns)
                logits = scale * same + bias
                wrong = logits if own is None else torch.where(own > 0, -logits, logits)
                loss += F.softplus(wrong).sum()
                of_logits = wrong.sigmoid_()
                of_logits = of_logits if own is None else torch.where(own > 0, -of_logits, of_logits)
                of_queries[rows] += of_logits @ keys[columns]
                of_keys[columns] += of_logits.T @ queries[rows]
                of_scale += of_logits.flatten() @ same.flatten()
                of_bias += of_logits.sum()
        ctx.save_for_backward(
            *(part / len(queries) for part in (of_queries * scale, of_keys * scale, of_scale, of_bias))
        )
        return loss / len(queries)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        return *(upstream[0] * gradient for gradient in ctx.saved_tensors), None


def tiled_sigmoid_loss(queries: Tensor, keys: Tensor, scale: Tensor, bias: Tensor, right: Right) -> Tensor:
    """Return what `sigmoid_loss` does of unit vectors `queries (B, D)` and `keys (K, D)`."""
    return _Sigmoid.apply(queries.float(), keys.float(), scale.float(), bias.float(), right)
