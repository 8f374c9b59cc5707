"""Rows of tensors, chosen by operations whose gradients are deterministic."""

import torch
from torch import Tensor
from torch.nn import functional as F


def take(tensor: Tensor, rows: Tensor | slice) -> Tensor:
    """Return what `tensor[rows]` returns, with a gradient that is the same each time.

    The backward of `tensor[rows]` adds up by atomics where several threads share it, in another order each time; that of
    `torch.index_select` does not.

    Args:
        tensor: (N, ...), or for a mask of several axes (B, N, ...).
        rows: whole numbers (...,) along the first axis, a mask of the first axes, or a slice.

    Returns:
        (*rows.shape, ...) for whole numbers, (K, ...) for a mask with K true places.
    """
    if isinstance(rows, slice):
        return tensor[rows]
    if rows.dtype == torch.bool:
        return tensor.flatten(0, rows.ndim - 1).index_select(0, rows.flatten().nonzero().squeeze(1))
    return tensor.index_select(0, rows.flatten()).unflatten(0, rows.shape)


def look_up(table: Tensor, index: Tensor) -> Tensor:
    """Return the rows (..., D) of a learned `table (V, D)` at `index (...,)`, many times the same: an embedding."""
    return F.embedding(index, table)
