"""Tokens in front of those of a transformer: how its blocks take them, and how they are taken away again."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.adapters.blank import KINDS, encode_blank
from mmexp.adapters.layers import instead, key_of, need_blocks
from mmexp.attention import pack, places_of, unpack
from mmexp.errors import RequestError

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def with_front(args: tuple[Any, ...], kwargs: Mapping[str, Any], front: Tensor) -> Arguments:
    """Return the arguments of a block with `front (P, D)` before the tokens of every row, and masks that let it be seen.

    The first argument is `tokens (B, N, D)`, or `tokens (T, D)` in a row as our own blocks have them, before their `mask (B, N)`
    and `places (T,)`.
    """
    tokens, front = args[0], front.to(args[0].dtype)
    if tokens.dim() == 2:
        rows = unpack(tokens, args[2], args[1])
        mask = F.pad(args[1], (len(front), 0), value=True)
        places = places_of(mask)
        return (pack(_joined(front, rows), places), mask, places, *args[3:]), dict(kwargs)
    wider = {name: _seen(value, tokens.shape[1], len(front)) for name, value in kwargs.items()}
    return (_joined(front, tokens), *(_seen(v, tokens.shape[1], len(front)) for v in args[1:])), wider


def _joined(front: Tensor, rows: Tensor) -> Tensor:
    return torch.cat([front.expand(len(rows), -1, -1), rows], 1)


def _seen(value: Any, length: int, count: int) -> Any:
    """Return an attention mask (..., N) or (..., N, N) for `count` more keys, and so many more queries."""
    if not isinstance(value, Tensor) or value.dim() < 2 or value.shape[-1] != length:
        return value
    square = (count, 0, count, 0) if value.shape[-2] == length else (count, 0)
    return F.pad(value, square, value=float(value.dtype == torch.bool))


def without_front(args: tuple[Any, ...], output: Any, count: int) -> Any:
    """Return what a block gave, without the first `count` tokens of each row; `args` are those it was given."""
    if isinstance(output, tuple):
        return (without_front(args, output[0], count), *output[1:])
    if output.dim() > 2:
        return output[:, count:]
    rows, mask = unpack(output, args[2], args[1])[:, count:], args[1][:, count:]
    return pack(rows, places_of(mask))


def token_width(part: str, module: nn.Module) -> int:
    """Return the width of the tokens that a tower's blocks take. Raises RequestError where they take no row of tokens."""
    first = next(iter(need_blocks(part, module).values()))
    seen: list[Any] = []
    handle = first.register_forward_pre_hook(lambda _, args: seen.extend(args))
    try:
        _encode(part, module)
    finally:
        handle.remove()
    tokens = seen[0] if seen and isinstance(seen[0], Tensor) else None
    packed = len(seen) > 2 and isinstance(seen[1], Tensor) and seen[1].dtype == torch.bool
    if tokens is None or tokens.dim() != (2 if packed else 3):
        raise no_tokens(part, module, "its blocks take maps or windows, and no row of tokens")
    return tokens.shape[-1]


def no_tokens(part: str, module: nn.Module, why: str) -> RequestError:
    """Return the plain line for a tower that takes nothing in front of its tokens."""
    return RequestError(
        f"{key_of(part)}: nothing can stand in front of the tokens of {part} ({type(module).__name__}): {why}. "
        f"{instead(part, module)}"
    )


def tried(part: str, module: nn.Module) -> None:
    """Encode something with what was put in front. Raises RequestError where the tower cannot."""
    try:
        _encode(part, module)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise no_tokens(part, module, str(error).strip().splitlines()[0]) from error


@torch.no_grad()
def _encode(part: str, module: nn.Module) -> None:
    if getattr(module, "modality", None) not in KINDS:
        raise no_tokens(part, module, "this adapter knows pictures, texts and sounds alone")
    encode_blank(module)
