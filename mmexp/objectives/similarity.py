"""Unit vectors and their similarities in fp32: at a temperature of 0.07 a bf16 logit is wrong by several per cent."""

from math import log

import torch
from torch import Tensor
from torch.nn import functional as F


def unit(vectors: Tensor) -> Tensor:
    """Return `vectors (B, D)` with length 1, fp32."""
    return F.normalize(vectors.float(), dim=-1)


def similarity(queries: Tensor, keys: Tensor) -> Tensor:
    """Return the products (B, K) of `queries (B, D)` and `keys (K, D)`, fp32 whatever the precision of the run."""
    with torch.autocast(queries.device.type, enabled=False):
        return queries.float() @ keys.float().T


@torch.no_grad()
def clamp_log_scale(log_scale: Tensor, max_scale: float) -> None:
    """Clamp a learned logarithm of a logit scale in place, so that the scale is at most `max_scale` (CLIP: 100).

    As open_clip does after each optimizer step. Clamping the scale in the forward pass instead would give a gradient of 0
    beyond the limit, and a parameter that got there would stay. A frozen parameter is left as it is.

    Args:
        log_scale: A scalar parameter; the logits are `exp(log_scale)` times the cosine similarities.
        max_scale: The largest scale.
    """
    if log_scale.requires_grad:
        log_scale.clamp_(max=log(max_scale))


def row_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the mean (B,) of each row's `values (B, K)` by its `weights (B, K)`, 0 for a row that has none."""
    total = weights.sum(-1)
    return (values * weights).sum(-1) / total.where(total > 0, 1)
