"""Projections of pretrained dual encoders into their common space, as modules that can be trained."""

from copy import deepcopy

from torch import Tensor, nn


def as_module(projection: Tensor | nn.Module | None) -> nn.Module:
    """Return a copy of a projection whose tensors are parameters.

    Args:
        projection: a matrix (D, E) by which pooled encodings (B, D) are multiplied, a module, or None for the identity.

    Returns:
        A linear layer, the module without what changes nothing in evaluation, or `nn.Identity`.
    """
    if projection is None:
        return nn.Identity()
    if isinstance(projection, Tensor):
        layer = nn.Linear(projection.shape[0], projection.shape[1], bias=False, device="meta")
        layer.weight = nn.Parameter(projection.detach().float().T.clone())
        return layer
    layers = [layer for layer in _layers(projection) if not isinstance(layer, nn.Identity | nn.Dropout)]
    copies = [_trainable(deepcopy(layer)) for layer in layers]
    return copies[0] if len(copies) == 1 else nn.Sequential(*copies) if copies else nn.Identity()


def _layers(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, nn.Sequential):
        return [layer for child in module for layer in _layers(child)]
    return [module]


def _trainable(module: nn.Module) -> nn.Module:
    """Make the tensors that an encoder retired to buffers, since no encoding depends on them, parameters again."""
    for layer in module.modules():
        for name in ("weight", "bias"):
            tensor = layer._buffers.pop(name, None)
            if tensor is not None:
                layer.register_parameter(name, nn.Parameter(tensor.detach().float().clone()))
    return module.float().requires_grad_(True)


def width_of(projection: nn.Module, dim: int) -> int:
    """Return the width of what a projection of pooled encodings (B, `dim`) gives."""
    linear = [layer for layer in projection.modules() if isinstance(layer, nn.Linear)]
    return linear[-1].out_features if linear else dim
