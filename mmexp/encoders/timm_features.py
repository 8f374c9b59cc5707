"""Tokens and pooled features of any timm model."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from mmexp.encoders.names import dense_convolutions

TRANSFORMER_LAYERS = r".*\.(attn\.(qkv|q|k|v|kv|q_proj|k_proj|v_proj|proj)|mlp\.(fc1|fc1_g|fc1_x|fc2))"


def as_tokens(model: Any, features: Tensor) -> Tensor:
    """Return (B, N, D) of what `forward_features` gave: (B, P + N, D), (B, H, W, D) or (B, D, H, W)."""
    if features.ndim == 3:
        return features[:, getattr(model, "num_prefix_tokens", 0) :]
    if str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC"):
        return features.flatten(1, 2)
    return features.flatten(2).transpose(1, 2)


def sees_parts(model: nn.Module) -> bool:
    """Say whether `visible_features` does for this model what its own forward does for all patches."""
    from timm.models.vision_transformer import VisionTransformer

    return getattr(type(model), "forward_features", None) is VisionTransformer.forward_features


def visible_features(model: Any, pixels: Tensor, keep: Tensor) -> Tensor:
    """Return what `forward_features` gives of class tokens and the patches `keep (B, K)` alone: (B, P + K, D)."""
    tokens = pick(model._pos_embed(model.patch_embed(pixels)), keep, model.num_prefix_tokens)
    return model.norm(model.blocks(model.norm_pre(tokens)))


def pick(tokens: Tensor, keep: Tensor, prefix: int) -> Tensor:
    """Return the first `prefix` of `tokens (B, P + N, D)` and those at the places `keep (B, K)` after them."""
    chosen = tokens[:, prefix:].gather(1, keep[..., None].expand(-1, -1, tokens.shape[-1]))
    return torch.cat([tokens[:, :prefix], chosen], 1)


def head_fits(model: Any, features: Tensor) -> bool:
    """Say whether the model's own pooling gives vectors as wide as its tokens."""
    try:
        pooled = model.forward_head(features, pre_logits=True)
    except (TypeError, AttributeError):
        return False
    return pooled.ndim == 2 and pooled.shape[-1] == as_tokens(model, features).shape[-1]


def adapter_targets(model: nn.Module) -> str:
    """Return a pattern for the linear layers of attention and MLP, or for the convolutions where there are none."""
    if any(re.fullmatch(TRANSFORMER_LAYERS, f"model.{name}") for name, _ in model.named_modules()):
        return TRANSFORMER_LAYERS
    return "|".join(rf"model\.{re.escape(name)}" for name in dense_convolutions(model))
