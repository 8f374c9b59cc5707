"""What encoders and fusions share on tokens: attention by whichever way is fast on the device at hand, and the mean."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel


def slow_when_fused(device: torch.device, dtype: torch.dtype) -> bool:
    """Say whether the fused attention loses: on a CPU in bf16 its backward takes five times that of plain products."""
    if torch.is_autocast_enabled(device.type):
        dtype = torch.get_autocast_dtype(device.type)
    return device.type == "cpu" and dtype == torch.bfloat16


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return what each query sees: `query (B, H, N, d)`, `key`, `value (B, H, M, d)`.

    `mask (B, M)` is true where a key is real, `mask (B, N, M)` where a query may see it. `bias (H, N, M)` is added to the
    scores.
    """
    seen = mask[:, None, None] if mask.dim() == 2 else mask[:, None]
    if not slow_when_fused(query.device, query.dtype):
        told = seen if bias is None else bias.to(query.dtype).masked_fill(~seen, float("-inf"))
        return F.scaled_dot_product_attention(query, key, value, told)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    scores = scores if bias is None else scores + bias.to(scores.dtype)
    return scores.masked_fill(~seen, float("-inf")).softmax(-1).to(value.dtype) @ value


def places_of(mask: Tensor) -> Tensor:
    """Return (T,) the positions of the real tokens in a flattened batch, `mask (B, N)`."""
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
    """Let the attention inside other libraries' models run as plain products where the fused one is slow."""
    if not slow_when_fused(device, dtype):
        yield
        return
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    # Despite its name it holds on the CPU too; without it the products are computed in fp32.
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel([SDPBackend.MATH]):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)
