"""Weights as small integers with a scale a row: how a quantized run is stored."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

SCALE, NIBBLES = ".int8_scale", ".int4"
GROUP = 32


def packed(weights: Mapping[str, Tensor], how: str, whole: Collection[str] = ()) -> dict[str, Tensor]:
    """Return weights with every float matrix as int8 and a scale a row; with int4_weights those of linear layers as 4 bits.

    Those by the names `whole` stay as they are.

    A value is within half a step of what it was: steps are the largest of a row / 127, or of 32 in a row / 7.
    """
    found: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if name in whole or not weight.is_floating_point() or weight.ndim < 2 or weight.numel() < 256:
            found[name] = weight
        elif how == "int4_weights" and name.endswith(".weight") and weight.ndim == 2 and not weight.shape[1] % GROUP:
            groups = weight.float().unflatten(1, (-1, GROUP))
            scale = groups.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 7
            small = ((groups / scale).round() + 8).to(torch.uint8).flatten(1)
            found[f"{name}{NIBBLES}"] = small[:, ::2] | (small[:, 1::2] << 4)
            found[f"{name}{SCALE}"] = scale.squeeze(-1).half()
        else:
            flat = weight.float().flatten(1) if weight.shape[0] > 1 else weight.float().flatten(0, -2)
            scale = flat.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
            found[name] = (flat / scale).round().to(torch.int8).view(weight.shape)
            found[f"{name}{SCALE}"] = scale.squeeze(1)
    return found


def unpacked(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what `packed` was given, as far as it can be told."""
    found: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if name.endswith(SCALE):
            continue
        if name.endswith(NIBBLES):
            plain = name.removesuffix(NIBBLES)
            small = torch.stack([weight & 15, weight >> 4], -1).flatten(1).float() - 8
            found[plain] = (small.unflatten(1, (-1, GROUP)) * weights[f"{plain}{SCALE}"].float()[..., None]).flatten(1)
        elif f"{name}{SCALE}" in weights:
            scale = weights[f"{name}{SCALE}"]
            flat = weight.float().flatten(1) if weight.shape[0] > 1 else weight.float().flatten(0, -2)
            found[name] = (flat * scale[:, None]).view(weight.shape)
        else:
            found[name] = weight
    return found


def size(weights: Mapping[str, Tensor]) -> int:
    """Return how many bytes tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
