"""Attention by batched products, whose backward is the fast one on a CPU in bf16."""

from typing import Any

import torch
from torch import Tensor

from mmexp.dropout import dropout


def computed_in(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """Return the precision of products of `dtype`: autocast's where that is on."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else dtype


def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Do what `F.scaled_dot_product_attention` does, with its arguments, by two batched products.

    Heads are laid out before keys are transposed, since batches of transposed keys would be copied element by element. A query
    that may see no key sees all of them.
    """
    if enable_gqa:
        key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (key, value))
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    dtype = computed_in(query.device, query.dtype)
    heads, keys, values = (t.to(dtype).reshape(-1, *t.shape[-2:]) for t in (query, key, value))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    told = None if attn_mask is None else _added(attn_mask, heads.dtype, query.shape[:-2])
    scores: Tensor = Scores.apply(heads, keys, told, scale)
    shares = dropout(scores.softmax(-1).to(values.dtype), dropout_p)
    return (shares @ values).view(*query.shape[:-1], value.shape[-1])


class Scores(torch.autograd.Function):
    """Scaled products of queries (B, N, d) and keys (B, M, d), and what is added to them.

    Torch's own backward would scale both gradients in passes of their own, and lay the one of keys the slow way round.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, told: Tensor | None, scale: float) -> Tensor:
        """Return the scores (B, N, M); `told` is of a shape that broadcasts to them."""
        ctx.save_for_backward(queries, keys)
        ctx.scale, ctx.told = scale, None if told is None else told.shape
        added = queries.new_zeros(1) if told is None else told
        return torch.baddbmm(added, queries, keys.transpose(1, 2), beta=int(told is not None), alpha=scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of queries, of keys, and of what was added."""
        (gradient,), (queries, keys) = gradients, ctx.saved_tensors
        nothing, scale = gradient.new_zeros(1), ctx.scale
        of_queries = torch.baddbmm(nothing, gradient, keys, beta=0, alpha=scale)
        of_keys = torch.baddbmm(nothing, gradient.transpose(1, 2), queries, beta=0, alpha=scale)
        return of_queries, of_keys, gradient.sum_to_size(ctx.told) if ctx.needs_input_grad[2] else None, None


class Heads(torch.autograd.Function):
    """What is projected together, head by head; its gradients meet in one tensor, where torch would lay them out twice."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor) -> tuple[Tensor, ...]:
        """Return of `projected (B, N, K, H, d)` K tensors (B, H, N, d)."""
        ctx.shape = projected.shape
        return projected.permute(2, 0, 3, 1, 4).unbind(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Return the gradient of what was projected."""
        gathered = gradients[0].new_empty(ctx.shape)
        for place, gradient in zip(gathered.unbind(2), gradients, strict=True):
            place.copy_(gradient.transpose(1, 2))
        return gathered


def _added(mask: Tensor, dtype: torch.dtype, batch: torch.Size) -> Tensor:
    """Return what a mask (..., N or 1, M) adds to the scores of `batch` heads laid in a row."""
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
    mask = mask.to(dtype)
    return mask if mask.ndim == 2 else mask.expand(*batch, *mask.shape[-2:]).flatten(0, -3)
