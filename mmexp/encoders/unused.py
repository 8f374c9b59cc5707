"""Weights that a model carries but an encoding never uses: poolers, classifier heads, mask tokens."""

from typing import Any

import torch
from torch import nn

from mmexp.types import Encoded, Prepared


def retire_unused(encoder: nn.Module, prepared: Prepared) -> Encoded:
    """Turn parameters that neither tokens nor pooled depend on into buffers; return the encoding of `prepared`.

    As buffers they keep their names, so that weights still load, but no optimizer holds them and DDP does not wait for
    their gradients. It costs one forward pass: the graph is walked, nothing is differentiated.
    """
    training = encoder.training
    encoder.eval()
    with torch.enable_grad():
        encoded: Encoded = encoder(prepared)
        reached = _leaves((encoded.tokens.sum() + encoded.pooled.sum()).grad_fn)
    encoder.train(training)
    for module in encoder.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) not in reached:
                delattr(module, name)
                module.register_buffer(name, parameter.detach())
    return encoded


def _leaves(root: Any) -> set[int]:
    """Return the ids of the tensors at the ends of an autograd graph."""
    found, seen, pending = set(), {root}, [root]
    while pending:
        node = pending.pop()
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        fresh = {child for child, _ in node.next_functions if child is not None} - seen
        seen |= fresh
        pending.extend(fresh)
    return found
