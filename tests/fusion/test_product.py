"""The product of encodings against its formula, and what a missing modality does to it."""

import torch

from mmexp.fusion.product import ProductFusion
from mmexp.types import Encoded


def encoded(dim: int, seed: int) -> Encoded:
    tokens = torch.randn(4, 3, dim, generator=torch.Generator().manual_seed(seed))
    return Encoded(tokens, tokens.mean(1), torch.ones(4, 3, dtype=torch.bool))


def test_product_is_low_rank_bilinear_pooling():
    fusion, image, text = ProductFusion({"image": 5, "text": 6}, dim=7, rank=8), encoded(5, 0), encoded(6, 1)
    (u, v), mix = fusion.project.values(), fusion.mix
    fused = fusion({"image": image, "text": text})
    gates = torch.tanh(image.pooled @ u.weight.T + u.bias) * torch.tanh(text.pooled @ v.weight.T + v.bias)
    assert torch.allclose(fused.pooled, gates @ mix.weight.T + mix.bias, atol=1e-6)
    assert fused.tokens.shape == (4, 2, 7) and fused.mask.all()
    fused.pooled.sum().backward()
    assert all(p.grad.any() for p in fusion.parameters())


def test_a_missing_modality_gates_nothing():
    fusion, image = ProductFusion({"image": 5, "text": 6}, dim=7, rank=8), encoded(5, 0)
    alone = fusion({"image": image})
    assert torch.allclose(alone.pooled, fusion.mix(torch.tanh(fusion.project["image"](image.pooled))))
    assert alone.tokens.shape == (4, 1, 7)
