"""Encoding some rows at a time, so that a step keeps the encodings of the whole batch, and the activations of a few rows."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.checkpoint import checkpoint

from mmexp.types import Encoded, Prepared


def encode_by_rows(
    encoder: nn.Module,
    encode: Callable[..., Encoded],
    rows: int | None,
    prepared: Prepared,
    keep: Tensor | None = None,
) -> Encoded:
    """Return what `encode(prepared)`, or `encode(prepared, keep (B, K))`, gives, at most `rows` rows at a time.

    In training nothing of a piece but its encoding is kept; its activations are computed a second time when the backward gets
    there. Losses see the whole batch, so that the gradients are those of GradCache (arXiv:2101.06983), and of the whole batch
    at once. Batch norms take the statistics of each piece.
    """
    if rows is None:
        return encode(prepared) if keep is None else encode(prepared, keep)

    def cut(piece: slice) -> tuple[Any, ...]:
        part = {name: tensor[piece] for name, tensor in prepared.items()}
        return (part,) if keep is None else (part, keep[piece])

    return _by_rows(encoder, encode, rows, len(next(iter(prepared.values()))), cut)


def fuse_by_rows(fusion: Any, rows: int | None, encoded: dict[str, Encoded]) -> Encoded:
    """Return `fusion(encoded)`, at most `rows` rows at a time, as encoders are run."""
    if rows is None:
        return fusion(encoded)
    first = next(iter(encoded.values())).pooled

    def fuse(part: dict[str, Encoded], _: Tensor) -> Encoded:
        return fusion(part)

    # A tensor goes along, by which torch finds the device whose random numbers are to be drawn a second time.
    return _by_rows(
        fusion, fuse, rows, len(first), lambda piece: ({name: one[piece] for name, one in encoded.items()}, first)
    )


def _by_rows(
    module: nn.Module, run: Callable[..., Encoded], rows: int, size: int, cut: Callable[[slice], tuple[Any, ...]]
) -> Encoded:
    # Of nearly equal size: from a last piece of one row a batch norm would learn nothing.
    count = ceil(size / rows)
    pieces = [cut(slice(size * i // count, size * (i + 1) // count)) for i in range(count)]
    if len(pieces) > 1 and torch.is_grad_enabled():
        run = partial(checkpoint, run, use_reentrant=False, context_fn=partial(second_time, module))
    return _joined([run(*piece) for piece in pieces])


def _joined(pieces: list[Encoded]) -> Encoded:
    present = None if pieces[0].present is None else torch.cat([piece.there() for piece in pieces])
    tokens, pooled, mask = (
        torch.cat([getattr(piece, name) for piece in pieces]) for name in ("tokens", "pooled", "mask")
    )
    return Encoded(tokens, pooled, mask, pieces[0].parts, present)


def second_time(module: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Return the contexts of the two times that a module computes: in the second nothing is learned or counted again."""
    return nullcontext(), _SecondTime(module)


class _SecondTime:
    """Lets batch norms learn nothing from what they have seen, and nobody count the FLOPs again.

    It is entered in every backward: a balance may ask for several.
    """

    def __init__(self, module: nn.Module):
        self.module, self.undo = module, ExitStack()

    def __enter__(self) -> None:
        self.undo.enter_context(_disable_current_modes())
        for part in self.module.modules():
            if part.training and getattr(part, "track_running_stats", False):
                # Copies to learn into; as many tensors as the first time are to be saved.
                for name, buffer in part.named_buffers(recurse=False):
                    self.undo.callback(setattr, part, name, buffer)
                    setattr(part, name, buffer.clone())

    def __exit__(self, *_: object) -> None:
        self.undo.close()
