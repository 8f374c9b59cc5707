"""Tokens and pooled features of any timm model."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from mmexp.curriculum import Curriculum, current
from mmexp.encoders.names import dense_convolutions
from mmexp.errors import RequestError

TRANSFORMER_LAYERS = r".*\.(attn\.(qkv|q|k|v|kv|q_proj|k_proj|v_proj|proj)|mlp\.(fc1|fc1_g|fc1_x|fc2))"


def as_tokens(model: Any, features: Tensor) -> Tensor:
    """Return (B, N, D) of what `forward_features` gave: (B, P + N, D), (B, H, W, D) or (B, D, H, W)."""
    if features.ndim == 3:
        return features[:, getattr(model, "num_prefix_tokens", 0) :]
    if str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC"):
        return features.flatten(1, 2)
    return features.flatten(2).transpose(1, 2)


def is_plain_vit(model: nn.Module) -> bool:
    """Say whether `vit_features` does for this model what its own forward does: timm's VisionTransformer and Eva."""
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    own = getattr(type(model), "forward_features", None)
    return own in (VisionTransformer.forward_features, Eva.forward_features)


def vit_features(model: Any, pixels: Tensor, keep: Tensor | None = None, drop: nn.Module | None = None) -> Tensor:
    """Return what `forward_features` gives: class tokens and patches (B, P + N, D), each patch told of its own place.

    Of the patches only `keep (B, K)` take part, or those that `drop` leaves, a dropout that also returns their places.
    """
    tokens, own = _embedded(model, pixels)
    if keep is not None:
        tokens = pick(tokens, keep, model.num_prefix_tokens)
    elif drop is not None:
        tokens, keep = drop(tokens)
    bias, rotation = _told(model, tokens, own, keep)
    tokens = model.norm_pre(tokens)
    for i, block in enumerate(model.blocks):
        turned = rotation[i] if rotation is not None and getattr(model, "rope_mixed", False) else rotation
        told = {"attn_mask": bias, "rope": turned}
        tokens = block(tokens, **{name: value for name, value in told.items() if value is not None})
    return model.norm(tokens)


def _embedded(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return tokens (B, P + N, D) and, of Eva, its own rotation."""
    embedded = model._pos_embed(model.patch_embed(pixels))
    return embedded if isinstance(embedded, tuple) else (embedded, None)


def _told(model: Any, tokens: Tensor, own: Tensor | None, keep: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Return the bias and the rotation of the patches that take part."""
    places = getattr(model, "places", None)
    if places is not None:
        relation = places(keep)
        return relation.bias if relation.bias is None else relation.bias.to(tokens.dtype), relation.rotation
    if own is None or keep is None:
        return None, own
    from timm.layers import apply_keep_indices_nlc

    kept = apply_keep_indices_nlc(tokens, own, keep)
    # Eva's mixed rotations differ by block and head; others lack the dimension of heads.
    return None, kept.transpose(0, 1) if model.rope_mixed else kept.unsqueeze(1)


def take_patch_drop(model: Any, rate: Curriculum[float]) -> nn.Module | None:
    """Return the dropout of patches at that rate, or at the model's own where it is 0; the model then drops none itself.

    Raises RequestError where there are no patches to leave out, and where none would stay.
    """
    own = getattr(model, "patch_drop", None)
    rate = rate or getattr(own, "prob", 0.0)
    if not rate:
        return None
    from timm.layers import PatchDropout

    if not is_plain_vit(model):
        raise RequestError(
            f"patch_dropout: timm's {type(model).__name__} cannot leave patches out. Set it to 0, or choose a vision transformer."
        )
    # Eva has none where it drops none.
    model.patch_drop = nn.Identity() if isinstance(own, nn.Identity | PatchDropout) else None
    return patch_dropout(rate, model.num_prefix_tokens)


def patch_dropout(rate: Curriculum[float], prefix: int) -> nn.Module:
    """Return timm's dropout of patches (FLIP, arXiv:2212.00794) behind `prefix` class tokens; it returns their places too.

    A rate that changes is that of the beginning.
    """
    if max(current(rate, 0.0), current(rate, 1.0)) >= 1:
        raise RequestError(f"patch_dropout={rate} leaves no patch. Set it below 1.")
    from timm.layers import PatchDropoutWithIndices

    return PatchDropoutWithIndices(current(rate, 0.0), prefix)


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
