"""Layers as wide as weights are, and linear layers that are two narrow ones."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmexp.errors import RequestError


class LowRank(nn.Sequential):
    """A linear layer of low rank: `first (R, I)`, then `second (O, R)` with the bias."""

    def __init__(self, inputs: int, outputs: int, rank: int, bias: bool):
        super().__init__(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=bias))

    @property
    def in_features(self) -> int:
        """How many numbers go in."""
        first: Any = self[0]
        return first.in_features


def fit(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give the layers of a module the shapes of `weights`, by its names. Raises RequestError for one that cannot have them."""
    for name, layer in list(module.named_modules()):
        rank = weights.get(f"{name}.0.weight")
        if isinstance(layer, nn.Linear) and f"{name}.weight" not in weights and rank is not None:
            outputs = len(weights[f"{name}.1.weight"])
            low = LowRank(rank.shape[1], outputs, len(rank), f"{name}.1.bias" in weights)
            module.set_submodule(name, low)
    for name, layer in module.named_modules():
        for own, parameter in list(layer.named_parameters(recurse=False)):
            stored = weights.get(f"{name}.{own}")
            if stored is not None and stored.shape != parameter.shape:
                _resize(layer, own, stored.shape, f"{name}.{own}")
        for own, buffer in list(layer.named_buffers(recurse=False)):
            stored = weights.get(f"{name}.{own}")
            if stored is not None and stored.shape != buffer.shape:
                setattr(layer, own, torch.zeros(stored.shape, dtype=buffer.dtype))
    for layer in module.modules():
        settle_heads(layer)


def _resize(layer: Any, own: str, shape: torch.Size, name: str) -> None:
    if not isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.LayerNorm | nn.modules.batchnorm._BatchNorm):
        raise RequestError(
            f"compression.shapes=loaded: {name} has other shapes there, and its layer has one width alone."
        )
    setattr(layer, own, nn.Parameter(torch.empty(shape), requires_grad=getattr(layer, own).requires_grad))
    if own != "weight":
        return
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = shape
    elif isinstance(layer, nn.Conv1d | nn.Conv2d):
        layer.out_channels, layer.in_channels = shape[0], shape[1] * layer.groups
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = tuple(shape)
    else:
        layer.num_features = shape[0]


def settle_heads(layer: Any) -> None:
    """Tell an attention of timm how wide its heads have become."""
    if isinstance(getattr(layer, "qkv", None), nn.Linear) and hasattr(layer, "head_dim"):
        layer.head_dim = layer.qkv.out_features // (3 * layer.num_heads)
        layer.attn_dim, layer.scale = layer.head_dim * layer.num_heads, layer.head_dim**-0.5


def factorise(module: nn.Module, share: float) -> int:
    """Make linear layers two narrow ones that have `share` of their weights; return how many layers were made so.

    By the truncated singular value decomposition, which no other product of that rank is nearer to (Eckart and Young 1936).
    A layer that calls by name what it multiplies by (of torch's own attention) stays as it is.
    """
    count = 0
    for name, layer in list(module.named_modules()):
        if type(layer) is not nn.Linear or min(layer.weight.shape) < 16:
            continue
        outputs, inputs = layer.weight.shape
        rank = int(share * inputs * outputs / (inputs + outputs))
        if rank < 1:
            continue
        left, values, right = torch.linalg.svd(layer.weight.detach().double(), full_matrices=False)
        low: Any = LowRank(inputs, outputs, rank, layer.bias is not None)
        root = values[:rank].sqrt()
        low[0].weight.data = (root[:, None] * right[:rank]).to(layer.weight.dtype)
        low[1].weight.data = (left[:, :rank] * root).to(layer.weight.dtype)
        if layer.bias is not None:
            low[1].bias.data = layer.bias.detach().clone()
        module.set_submodule(name, low)
        count += 1
    return count
