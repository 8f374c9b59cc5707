"""What encoders and fusions share on tokens: attention by whichever way is fast on the device at hand, and the mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.linear import linear
from mmexp.plain_attention import Heads, computed_in, plain_attention

# Torch's own, whatever its name there means meanwhile.
_FUSED = F.scaled_dot_product_attention


def slow_when_fused(device: torch.device, dtype: torch.dtype) -> bool:
    """Say whether the fused attention loses: on a CPU in bf16 its backward takes five times that of plain products."""
    return device.type == "cpu" and computed_in(device, dtype) == torch.bfloat16


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
        return linear(seen.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias), None

    def _heads(self, query: Tensor, key: Tensor) -> list[Tensor]:
        """Return queries (B, H, N, d), keys and values (B, H, M, d)."""
        weight, bias, own = self.in_proj_weight, self.in_proj_bias, self.embed_dim
        if query is key:
            parts = [linear(query, weight, bias)]
        else:
            cut = [None, None] if bias is None else [bias[:own], bias[own:]]
            parts = [linear(query, weight[:own], cut[0]), linear(key, weight[own:], cut[1])]
        split = [part.unflatten(-1, (-1, self.num_heads, own // self.num_heads)) for part in parts]
        return [heads for part in split for heads in Heads.apply(part)]


def fasten(model: nn.Module) -> None:
    """Have every self-attention of torch's in a model, rows first, be a `SelfAttention`; its weights keep their names."""
    for part in model.modules():
        if type(part) is nn.MultiheadAttention and part.batch_first and part._qkv_same_embed_dim:
            part.__class__ = SelfAttention
