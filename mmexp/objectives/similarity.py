"""Unit vectors and their similarities in fp32: at a temperature of 0.07 a bf16 logit is wrong by several per cent."""

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


def row_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the mean (B,) of each row's `values (B, K)` by its `weights (B, K)`, 0 for a row that has none."""
    total = weights.sum(-1)
    return (values * weights).sum(-1) / total.where(total > 0, 1)
