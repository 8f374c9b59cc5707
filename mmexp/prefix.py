"""What of a partly frozen encoder lies below its lowest trained block: found by its calls, and gone on from."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.adapters.layers import blocks_of
from mmexp.attention import pack, places_of, unpack
from mmexp.types import Encoded, Prepared

KEPT = "below/"
# How far each channel of an encoding in fp32 may be off that goes on from the prefix, as a share of the channel's largest number.
CLOSE = 1e-4


@dataclass(frozen=True)
class Prefix:
    """The frozen blocks `skipped` below the lowest trained one, and the modules `resting` that nothing above calls.

    `blank` is a prepared input (1, ...), taken where the rows' own is not looked at. The stem in front of the blocks is run
    again, since what a block is told beside its tokens (masks, positions) is made there.
    """

    skipped: tuple[str, ...]
    resting: tuple[str, ...]
    blank: Prepared

    def below(self, encoder: nn.Module, prepared: Prepared) -> dict[str, Tensor]:
        """Return what the last of the skipped blocks says: `below/tokens (B, N, ...)` with its mask, or `below/whole`."""
        said: list[Tensor] = []
        hook = encoder.get_submodule(self.skipped[-1]).register_forward_hook(
            lambda _block, _inputs, output: said.append(_first(output))
        )
        with hook:
            encoder(prepared)
        mask = prepared.get("mask")
        if mask is None:
            return {f"{KEPT}whole": said[0]}
        tokens = unpack(said[0], places_of(mask), mask) if said[0].dim() == 2 else said[0]
        return (
            {f"{KEPT}tokens": tokens, f"{KEPT}mask": mask}
            if tokens.shape[1] == mask.shape[1]
            else {f"{KEPT}whole": tokens}
        )

    def above(self, encoder: nn.Module, prepared: Prepared) -> Encoded:
        """Return the encoding of `prepared`, which holds what `below` said of it; without an input of its own, of a blank."""
        kept = {name: tensor for name, tensor in prepared.items() if name.startswith(KEPT)}
        own = {name: tensor for name, tensor in prepared.items() if name not in kept}
        rows = len(next(iter(kept.values())))
        own = own or {
            name: one.to(next(iter(kept.values())).device).expand(rows, *one.shape[1:])
            for name, one in self.blank.items()
        }
        with self._skipping(encoder, _laid(kept, own.get("mask"))):
            return encoder(own)

    @contextmanager
    def _skipping(self, encoder: nn.Module, said: list[Tensor]) -> Iterator[None]:
        """Have the skipped blocks hand on what they are given, and the last one what it `said`, packed or not as it is given."""
        blocks: list[Any] = [encoder.get_submodule(name) for name in self.skipped]
        compiled = [block._compiled_call_impl for block in blocks]
        for block in blocks:
            block._compiled_call_impl = None
            block.forward = _given
        blocks[-1].forward = lambda *inputs, **named: _in_place_of(_given(*inputs, **named), said)
        try:
            yield
        finally:
            for block, call in zip(blocks, compiled, strict=True):
                del block.forward
                block._compiled_call_impl = call

    def rest(self, encoder: nn.Module) -> None:
        """Put what is below into evaluation mode, as fully frozen parts are, whether it is kept or computed."""
        for name in self.resting:
            encoder.get_submodule(name).eval()


def _given(*inputs: Any, **named: Any) -> Any:
    return inputs[0] if inputs else named["hidden_states"]


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _laid(kept: Mapping[str, Tensor], mask: Tensor | None) -> list[Tensor]:
    """Return what was kept as a block would hand it on: first padded to the length of the input, then packed."""
    if f"{KEPT}whole" in kept or mask is None:
        return [kept[f"{KEPT}whole"]]
    tokens = kept[f"{KEPT}tokens"]
    tokens = F.pad(tokens, (0, 0, 0, mask.shape[1] - tokens.shape[1]))
    return [tokens, pack(tokens, places_of(mask))]


def _in_place_of(given: Tensor, said: list[Tensor]) -> Tensor:
    return next(one for one in said if one.dim() == given.dim())


def prefix_of(encoder: nn.Module, prepared: Prepared, dtype: torch.dtype) -> Prefix | None:
    """Return the prefix of a partly frozen encoder, None where it has none that can be told apart.

    It is read off the calls of one forward of some `prepared` rows, and tried: the encoding that goes on from it is that of the
    encoder in each channel. What the prefix says must fit into `dtype`, in which it is stored; its rounding is not judged.
    """
    some = [parameter.requires_grad for parameter in encoder.parameters()]
    # Patches that are left out are others in each step.
    if not any(some) or all(some) or getattr(encoder, "patch_dropout", None):
        return None
    modes = [(inner, inner.training) for inner in encoder.modules()]
    encoder.eval()
    try:
        with torch.no_grad():
            found = _found(encoder, prepared)
            return found if found and _is_exact(found, encoder, prepared, dtype) else None
    finally:
        for inner, mode in modes:
            inner.training = mode


def _found(encoder: nn.Module, prepared: Prepared) -> Prefix | None:
    begun, ended = _calls(encoder, prepared)
    blocks = {name for name in blocks_of(encoder) if begun.get(name)}
    frozen = takewhile(
        lambda name: not any(p.requires_grad for p in encoder.get_submodule(name).parameters()),
        sorted(blocks, key=lambda name: begun[name][0]),
    )
    skipped = tuple(frozen)
    # A block that is passed several times, as in ALBERT, is both below and above.
    if not skipped or any(len(begun[name]) > 1 for name in skipped):
        return None
    border = ended[skipped[-1]][-1]
    below = tuple(name for name in ended if ended[name][-1] <= border)
    trained = {name.rpartition(".")[0] for name, p in encoder.named_parameters() if p.requires_grad}
    if not all(_first_call(name, begun) > border for name in trained):
        return None
    return Prefix(skipped, below, {name: tensor[:1].clone() for name, tensor in prepared.items()})


def _first_call(name: str, begun: Mapping[str, list[int]]) -> int:
    """Return when a module was first called, or the one around it that takes its weights without a call."""
    while name not in begun:
        name = name.rpartition(".")[0]
    return begun[name][0]


def _calls(encoder: nn.Module, prepared: Prepared) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Return when each module began and ended its calls in a forward, by its name, in the order of all of these."""
    begun: dict[str, list[int]] = {}
    ended: dict[str, list[int]] = {}
    clock = iter(range(10**9))
    hooks = []
    for name, module in encoder.named_modules():
        hooks.append(
            module.register_forward_pre_hook(lambda *_, name=name: begun.setdefault(name, []).append(next(clock)))
        )
        hooks.append(module.register_forward_hook(lambda *_, name=name: ended.setdefault(name, []).append(next(clock))))
    try:
        encoder(prepared)
    finally:
        for hook in hooks:
            hook.remove()
    return begun, ended


def _is_exact(prefix: Prefix, encoder: nn.Module, prepared: Prepared, dtype: torch.dtype) -> bool:
    kept = prefix.below(encoder, prepared)
    if not all(t.to(dtype).isfinite().all() for t in kept.values() if t.is_floating_point()):
        return False
    whole = encoder(prepared)
    own = {} if spares_input(encoder) else prepared
    try:
        again = prefix.above(encoder, {**own, **kept})
    except (RuntimeError, StopIteration, TypeError, KeyError, ValueError):
        return False
    pairs = ((whole.pooled, again.pooled), (whole.tokens[whole.mask], again.tokens[whole.mask]))
    return all(_is_close(a, b) for a, b in pairs if a.numel())


def _is_close(whole: Tensor, again: Tensor) -> bool:
    """Say whether each channel of `again` (..., D) is that of `whole` to a share `CLOSE` of the channel's largest number.

    Of a channel that is all but silent the share is of the median channel's largest number, since rounding in fp32 comes from
    its neighbours; so no massive channel hides what is wrong with the others.
    """
    a, b = (one.float().flatten(0, -2) for one in (whole, again))
    largest = a.abs().amax(0)
    return bool(((a - b).abs().amax(0) <= CLOSE * largest.maximum(largest.median())).all())


def spares_input(encoder: Any) -> bool:
    """Say whether an encoding that goes on from a prefix needs nothing of the rows' own input: of texts and sounds the mask."""
    return encoder.modality == "image"
