"""Encodings of random numbers, and every fusion at a small width."""

from collections.abc import Mapping
from functools import partial

import torch

from mmexp.fusion.bilinear import BilinearFusion
from mmexp.fusion.bottleneck import BottleneckFusion
from mmexp.fusion.coattn import CoAttentionFusion
from mmexp.fusion.concat import ConcatFusion
from mmexp.fusion.early import EarlyFusion
from mmexp.fusion.gated import GatedFusion
from mmexp.fusion.graph import GraphFusion
from mmexp.fusion.late import LateFusion
from mmexp.fusion.product import ProductFusion
from mmexp.fusion.sum import SumFusion
from mmexp.fusion.tensor import TensorFusion
from mmexp.fusion.xattn import CrossAttentionFusion
from mmexp.types import Encoded

FUSIONS = {
    "concat": partial(ConcatFusion, dim=12, hidden=10),
    "product": partial(ProductFusion, dim=12, rank=9),
    "xattn": partial(CrossAttentionFusion, dim=12, heads=3),
    "early": partial(EarlyFusion, dim=12, heads=3),
    "sum": partial(SumFusion, dim=12),
    "late": partial(LateFusion, dim=12),
    "coattn": partial(CoAttentionFusion, dim=12, heads=3),
    "gated": partial(GatedFusion, dim=12),
    "bilinear": partial(BilinearFusion, dim=12),
    "tensor": partial(TensorFusion, dim=12, products=130),
    "bottleneck": partial(BottleneckFusion, dim=12, heads=3),
    "graph": partial(GraphFusion, dim=12, heads=3),
}
KEEPING = ("xattn", "early", "coattn", "bottleneck")
DIMS = {"text": 6, "image": 5, "audio": 7}
LENGTHS = {"text": 4, "image": 3, "audio": 5}


def some(modalities: int) -> dict[str, int]:
    """Return the widths of the first so many modalities, in no order."""
    return dict(list(DIMS.items())[:modalities])


def made(name: str, dims: Mapping[str, int] = DIMS) -> torch.nn.Module:
    torch.manual_seed(0)
    return FUSIONS[name](dims)


def encoded_of(dims: Mapping[str, int] = DIMS, rows: int = 7, seed: int = 0) -> dict[str, Encoded]:
    """Return random encodings; the first text is one token shorter."""
    generator = torch.Generator().manual_seed(seed)
    encoded = {}
    for name, dim in dims.items():
        tokens = torch.randn(rows, LENGTHS[name], dim, generator=generator)
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool)
        mask[0, -1] = name != "text"
        encoded[name] = Encoded(tokens, torch.randn(rows, dim, generator=generator), mask)
    return encoded


def without(
    encoded: Mapping[str, Encoded], present: Mapping[str, torch.Tensor], fill: float = 0.0
) -> dict[str, Encoded]:
    """Return `encoded` where modalities are missing: `present (B,)` of each. In their place is `fill`, zeros by contract."""
    lacking = {}
    for name, one in encoded.items():
        there = present[name]
        tokens = torch.where(there[:, None, None], one.tokens, fill)
        pooled = torch.where(there[:, None], one.pooled, fill)
        lacking[name] = Encoded(tokens, pooled, one.mask & there[:, None], present=there)
    return lacking


def patterns(dims: Mapping[str, int] = DIMS) -> dict[str, torch.Tensor]:
    """Return which of 7 rows have which of three modalities: every choice but none of them."""
    return {name: torch.tensor([bool(row >> i & 1) for row in range(1, 8)]) for i, name in enumerate(dims)}
