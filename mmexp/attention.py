"""What encoders and fusions share on tokens: attention by whichever way is fast on the device at hand, and the mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.dropout import dropout

# Torch's own, whatever its name there means meanwhile.
_FUSED = F.scaled_dot_product_attention


def slow_when_fused(device: torch.device, dtype: torch.dtype) -> bool:
    """Say whether the fused attention loses: on a CPU in bf16 its backward takes five times that of plain products."""
    return device.type == "cpu" and _computed_in(device, dtype) == torch.bfloat16


def _computed_in(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else dtype


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return what each query sees: `query (B, H, N, d)`, `key`, `value (B, H, M, d)`.

    `mask (B, M)` is true where a key is real, `mask (B, N, M)` where a query may see it. `bias (H, N, M)` is added to the
    scores.
    """
    seen = mask[:, None, None] if mask.dim() == 2 else mask[:, None]
    if bias is not None:
        seen = bias.to(query.dtype).masked_fill(~seen, torch.finfo(query.dtype).min)
    return _attend(query)(query, key, value, seen)


def _attend(query: Tensor) -> Any:
    return plain_attention if slow_when_fused(query.device, query.dtype) else F.scaled_dot_product_attention


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
    dtype = _computed_in(query.device, query.dtype)
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


def places_of(mask: Tensor) -> Tensor:
    """Return (T,) the positions of the real tokens in a flattened batch, `mask (B, N)`; of all tokens in an exported graph.

    There a shape may not depend on what a tensor holds; the mask keeps the others out of what is said.
    """
    if torch.compiler.is_exporting():
        return torch.arange(mask.numel(), device=mask.device)
    return mask.flatten().nonzero().squeeze(1)


def pack(tokens: Tensor, places: Tensor) -> Tensor:
    """Return the real tokens (T, D) of `tokens (B, N, D)` in a row: captions differ much in length, and padding costs."""
    return tokens.flatten(0, 1).index_select(0, places)


def unpack(tokens: Tensor, places: Tensor, mask: Tensor) -> Tensor:
    """Return `tokens (T, D)` as (B, N, D) with zeros where `mask (B, N)` is false."""
    padded = tokens.new_zeros(mask.numel(), tokens.shape[-1])
    return padded.index_copy(0, places, tokens).unflatten(0, mask.shape)


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the real tokens: (B, N, D), (B, N) -> (B, D)."""
    weight = mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weight).sum(1) / weight.sum(1).clamp_min(1)


@contextmanager
def fast_attention(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Let the attention inside other libraries' models run as plain products where the fused one is slow.

    They all call it by its name in torch, which therefore means another function meanwhile. Torch's own plain products
    (`SDPBackend.MATH`) lay out what they multiply in a slow way.
    """
    if device.type != "cpu" or F.scaled_dot_product_attention is not _FUSED:  # somebody looks at it meanwhile
        yield
        return
    with attending_by(plain_attention if slow_when_fused(device, dtype) else _fused_or_dropping):
        yield


def _fused_or_dropping(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
    """On a CPU the fused attention has no dropout: torch then takes its own plain products, and slow draws."""
    return (plain_attention if options.get("dropout_p") else _FUSED)(query, key, value, *args, **options)


@contextmanager
def attending_by(attend: Any) -> Iterator[None]:
    """Let torch's name of the attention mean another function meanwhile."""
    before = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = attend
    try:
        yield
    finally:
        F.scaled_dot_product_attention = before


class SelfAttention(nn.MultiheadAttention):
    """Torch's own, computed row by row: it would lay out tokens before rows, and back, in copies."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Any]:
        """Return what torch's forward returns, of `query (B, N, D)` and `key`, `value (B, M, D)` that are the same."""
        plain = not args and set(options) <= {"need_weights", "attn_mask"} and not options.get("need_weights", True)
        mask = options.get("attn_mask")
        if not (plain and key is value) or (mask is not None and mask.dtype == torch.bool):
            return super().forward(query, key, value, *args, **options)
        if mask is not None and mask.ndim == 3:
            mask = mask.unflatten(0, (-1, self.num_heads))
        queries, keys, values = self._heads(query, key)
        seen = _attend(query)(queries, keys, values, mask, self.dropout if self.training else 0.0)
        # Not by calling the layer, as torch does not either: peft folds its update into the weight for the time being.
        return F.linear(seen.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias), None

    def _heads(self, query: Tensor, key: Tensor) -> list[Tensor]:
        """Return queries (B, H, N, d), keys and values (B, H, M, d)."""
        weight, bias, own = self.in_proj_weight, self.in_proj_bias, self.embed_dim
        if query is key:
            parts = [F.linear(query, weight, bias)]
        else:
            cut = [None, None] if bias is None else [bias[:own], bias[own:]]
            parts = [F.linear(query, weight[:own], cut[0]), F.linear(key, weight[own:], cut[1])]
        split = [part.unflatten(-1, (-1, self.num_heads, own // self.num_heads)) for part in parts]
        return [heads for part in split for heads in Heads.apply(part)]


def fasten(model: nn.Module) -> None:
    """Have every self-attention of torch's in a model, rows first, be a `SelfAttention`; its weights keep their names."""
    for part in model.modules():
        if type(part) is nn.MultiheadAttention and part.batch_first and part._qkv_same_embed_dim:
            part.__class__ = SelfAttention
