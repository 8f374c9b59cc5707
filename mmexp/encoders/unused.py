"""Weights that a model carries but an encoding never uses: poolers, classifier heads, mask tokens."""

import torch
from torch import nn

from mmexp.graph import reached
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
        used = reached(encoded.tokens.sum() + encoded.pooled.sum())
    encoder.train(training)
    for module in encoder.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) not in used:
                delattr(module, name)
                module.register_buffer(name, parameter.detach())
    return encoded
