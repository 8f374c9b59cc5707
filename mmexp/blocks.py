"""Other ways to run the blocks of a model, which change no result: computed a second time in the backward, or compiled."""

from functools import cache, partial
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mmexp.adapters.layers import blocks_of
from mmexp.attention import attending_by
from mmexp.errors import RequestError
from mmexp.micro_batches import second_time
from mmexp.model import Model


def _trained_blocks(model: Model) -> list[Any]:
    parts = [*model.encoders.values(), model.fusion]
    blocks = [block for part in parts for block in blocks_of(part).values()]
    return [block for block in blocks if any(parameter.requires_grad for parameter in block.parameters())]


def recompute(model: Model) -> None:
    """Keep of each trained block what goes in alone: its activations are computed again when the backward gets there.

    Dropout draws the same a second time (gradient checkpointing, arXiv:1604.06174). Raises RequestError for a model without
    blocks.
    """
    blocks = _trained_blocks(model)
    if not blocks:
        raise RequestError(
            "hardware.recompute=true: no trained block to compute again. Set hardware.micro_batch_size=ROWS."
        )
    for block in blocks:
        # A class of its own, so that a copy of the block has it, and names and weights stay.
        kind: Any = type(block)
        block.__class__ = _recomputed(kind)


@cache
def _recomputed(kind: Any) -> Any:
    def forward(self: Any, *inputs: Any, **named: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return kind.forward(self, *inputs, **named)
        attend = F.scaled_dot_product_attention

        def block(*inputs: Any, **named: Any) -> Any:
            # In the backward the name means what it means now.
            with attending_by(attend):
                return kind.forward(self, *inputs, **named)

        return checkpoint(block, *inputs, use_reentrant=False, context_fn=partial(second_time, self), **named)

    return type(kind.__name__, (kind,), {"forward": forward})


def compile_blocks(model: Model) -> None:
    """Compile each block, the blocks of a tower as one (torch.compile): the first steps wait for it.

    Raises RequestError where there is no compiler.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise RequestError(
            "hardware.compile=true: there is no C++ compiler. Install g++, or set it to false."
        ) from error
    for block in _trained_blocks(model):
        block.compile()
