"""Structured pruning of what lies inside blocks: hidden units of MLPs, channels of convolutions, widths of attention heads.

What blocks hand on keeps its width, so that encoders, fusions and heads fit each other as before.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmexp.compression.shapes import settle_heads
from mmexp.errors import RequestError


def prune(encoder: Any, prepared: Mapping[str, Tensor], share: float) -> None:
    """Take away `share` (0 to 1) of the widths inside an encoder, those of the smallest L1 norm (arXiv:1608.08710).

    `prepared` are some rows of its input. Raises RequestError where it has nothing to take away.
    """
    before = sum(parameter.numel() for parameter in encoder.parameters())
    for layer in encoder.modules():
        if _has_plain_heads(layer, encoder):
            _narrow_heads(layer, share)
    _prune_groups(encoder, prepared, share)
    if sum(parameter.numel() for parameter in encoder.parameters()) == before:
        raise RequestError(f"prune={share}: nothing inside the {encoder.modality} encoder could be taken away.")


def _has_plain_heads(layer: Any, encoder: Any) -> bool:
    """Say whether a layer's attention is one product to queries, keys and values, and nothing counts on their width."""
    if not isinstance(getattr(layer, "qkv", None), nn.Linear) or not isinstance(
        getattr(layer, "proj", None), nn.Linear
    ):
        return False
    turned = getattr(encoder, "relation", None) is not None or getattr(getattr(encoder, "model", None), "rope", None)
    normed = any(
        not isinstance(getattr(layer, name, nn.Identity()), nn.Identity) for name in ("q_norm", "k_norm", "norm")
    )
    own = layer.qkv.out_features == 3 * layer.proj.in_features
    return own and not turned and not normed and getattr(layer, "gate", None) is None


def _narrow_heads(layer: Any, share: float) -> None:
    """Take away `share` of the width of each head: the same of queries and keys, and of values what `proj` reads least."""
    heads = getattr(layer, "num_heads", None) or layer.heads
    qkv = layer.qkv.weight.detach().unflatten(0, (3, heads, -1))
    width = qkv.shape[2]
    kept = max(1, width - int(share * width))
    out = layer.proj.weight.detach().unflatten(1, (heads, -1))
    # A product of queries and keys is as large as both are, and so is what is read of a value.
    matched = qkv[0].abs().sum(-1) * qkv[1].abs().sum(-1)
    read = qkv[2].abs().sum(-1) * out.abs().sum(0)
    pairs, values = (score.topk(kept, -1).indices.sort(-1).values for score in (matched, read))
    own = torch.arange(heads)[:, None] * width
    rows = torch.cat([(own + pairs).flatten(), heads * width + (own + pairs).flatten()])
    rows = torch.cat([rows, 2 * heads * width + (own + values).flatten()])
    with torch.no_grad():
        # Attention divides by the root of the width, which has become less.
        scale = torch.ones(3 * heads * width)
        scale[: heads * width] = (kept / width) ** 0.5
        layer.qkv.weight = nn.Parameter((layer.qkv.weight * scale[:, None])[rows])
        if layer.qkv.bias is not None:
            layer.qkv.bias = nn.Parameter((layer.qkv.bias * scale)[rows])
        layer.proj.weight = nn.Parameter(layer.proj.weight[:, (own + values).flatten()])
    layer.qkv.out_features, layer.proj.in_features = len(rows), heads * kept
    settle_heads(layer)


def _prune_groups(encoder: Any, prepared: Mapping[str, Tensor], share: float) -> None:
    """Let torch-pruning (arXiv:2301.12900) take channels together with all that depends on them."""
    import torch_pruning

    inside = {id(layer) for block in encoder.modules() if _attends(block) for layer in block.modules()}
    stays = [
        layer
        for layer in encoder.modules()
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Embedding)
        and (id(layer) in inside or _hands_on(layer, encoder))
    ]
    with warnings.catch_warnings():
        # It tells of positions, which no group here holds.
        warnings.simplefilter("ignore")
        _take(torch_pruning, encoder, prepared, share, stays)


def _take(torch_pruning: Any, encoder: Any, prepared: Mapping[str, Tensor], share: float, stays: list[Any]) -> None:
    pruner = torch_pruning.pruner.BasePruner(
        encoder,
        dict(prepared),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=1),
        pruning_ratio=share,
        ignored_layers=stays,
        forward_fn=lambda model, rows: model(rows).pooled,
        output_transform=lambda pooled: pooled.sum(),
    )
    pruner.step()


def _attends(block: Any) -> bool:
    return isinstance(block, nn.MultiheadAttention) or any(
        isinstance(getattr(block, name, None), nn.Linear) for name in ("q_proj", "query", "q_lin", "q", "Wqkv")
    )


def _hands_on(layer: Any, encoder: Any) -> bool:
    """Say whether a layer writes into what blocks hand on, or into heads: what is as wide as the encoder's output."""
    width = getattr(layer, "out_features", None) or getattr(layer, "out_channels", None) or layer.embedding_dim
    return width in (encoder.dim, getattr(encoder, "word_dim", None)) or any(
        getattr(block, "qkv", None) is layer or (hasattr(block, "qkv") and getattr(block, "proj", None) is layer)
        for block in encoder.modules()
    )


def zero(module: nn.Module, share: float) -> dict[str, int]:
    """Set `share` of the weights of linear layers and convolutions to zero: the smallest of all (`torch.nn.utils.prune`).

    Returns:
        How many weights are `zero`, of how many of `layers` and of how many in `all`: embeddings, norms and biases stay.
    """
    from torch.nn.utils import prune as torch_prune

    layers = [(layer, "weight") for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d)]
    for layer, _ in layers:
        layer.weight.data = layer.weight.data.contiguous()
    torch_prune.global_unstructured(layers, torch_prune.L1Unstructured, amount=share)
    for layer, name in layers:
        torch_prune.remove(layer, name)
    weights = [layer.weight for layer, _ in layers]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    every = sum(parameter.numel() for parameter in module.parameters())
    return {"zero": zeros, "layers": sum(weight.numel() for weight in weights), "all": every}


def keep_zeros(module: nn.Module) -> None:
    """Let weights of linear layers and convolutions that are zero have no gradient: with no rate of change they stay so."""
    for layer in module.modules():
        weight = getattr(layer, "weight", None)
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d) and weight is not None and weight.requires_grad:
            there = weight.detach() != 0
            weight.register_hook(lambda gradient, there=there: gradient * there)
