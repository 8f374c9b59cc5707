"""Prefix tuning (arXiv:2101.00190): learned keys and values in front of those of every attention."""

import re
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmexp.adapters.front import no_tokens, token_width, tried, with_front, without_front
from mmexp.adapters.layers import KEYS_AND_VALUES, blocks_of, own
from mmexp.types import PositiveFloat, PositiveInt


class PrefixTuning:
    """Freeze a tower and train `count` keys and values for each of its blocks, which start `spread` wide.

    With `hidden` an MLP of that width makes them of trained vectors, as the paper does for stability.
    """

    needs_weights = True
    towers_only = True
    added = ".adapter.prefix_tuning."

    def __init__(self, count: PositiveInt = 8, hidden: PositiveInt | None = None, spread: PositiveFloat = 0.02):
        self.count, self.hidden, self.spread = count, hidden, spread

    def apply(self, name: str, part: nn.Module) -> None:
        """Put them there. Raises RequestError where the tower's attention takes none."""
        part.requires_grad_(False)
        width, blocks = token_width(name, part), list(blocks_of(part).values())
        layers = [_layers(name, part, block, width) for block in blocks]
        prefix = Prefix(self._encoder(width, len(blocks)), self.count, len(blocks))
        own(part, "prefix_tuning", prefix)
        for number, (block, pair) in enumerate(zip(blocks, layers, strict=True)):
            block.register_forward_pre_hook(partial(prefix.enter, number), with_kwargs=True)
            block.register_forward_hook(partial(prefix.leave, number))
            for layer, which in pair:
                layer.register_forward_hook(partial(prefix.learned, which))
        tried(name, part)

    def _encoder(self, width: int, blocks: int) -> nn.Module:
        from peft import PrefixEncoder, PrefixTuningConfig

        config = PrefixTuningConfig(
            num_virtual_tokens=self.count,
            token_dim=width,
            num_layers=blocks,
            num_attention_heads=1,
            num_transformer_submodules=1,
            prefix_projection=self.hidden is not None,
            encoder_hidden_size=self.hidden or width,
        )
        encoder: Any = PrefixEncoder(config)
        if self.hidden is None:
            nn.init.normal_(encoder.embedding.weight, std=self.spread)
        return encoder

    def merge(self, part: nn.Module) -> None:
        """Keys and values stay: they are of no input."""


class Prefix(nn.Module):
    """Room for `count` more tokens is made in front of each block, and behind it they are gone.

    Of their keys and values, which the layers make of nothing, the learned ones take the place; their queries ask in vain.
    """

    def __init__(self, encoder: nn.Module, count: int, blocks: int):
        super().__init__()
        self.encoder, self.count, self.blocks = encoder, count, blocks
        self._now: Any = None
        self._front: Any = None

    def no_weight_decay(self) -> set[str]:
        """Return the keys and values; the MLP that makes them of its inputs, if there is one, decays."""
        return {"encoder.embedding.weight"}

    def enter(self, number: int, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The arguments of a block, with blank tokens in front."""
        if number == 0:
            made = self.encoder(torch.arange(self.count, device=next(self.parameters()).device))
            self._made = made.view(self.count, self.blocks, 2, -1)
        self._now = self._made[:, number]
        args, kwargs = with_front(args, kwargs, args[0].new_zeros(self.count, args[0].shape[-1]))
        # Of tokens in a row: which are of the front, and its how manieth.
        self._front = args[2] % args[1].shape[1] if args[0].dim() == 2 else None
        return args, kwargs

    def learned(self, which: str, _: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """What a layer of keys and values gave, with the learned ones in front."""
        keys, values = self._now.unbind(1)
        pieces = {"q": torch.zeros_like(keys), "k": keys, "v": values}
        put = torch.cat([pieces[letter] for letter in which], -1).to(output.dtype)
        if self._front is None:
            return torch.cat([put.expand(len(output), -1, -1), output[:, self.count :]], 1)
        front = self._front < self.count
        return torch.where(front[:, None], put[self._front.clamp_max(self.count - 1)], output)

    def leave(self, number: int, _: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """What a block gave, without the front. Nothing of the step stays behind, so that the tower can be copied."""
        self._now = self._front = None
        if number == self.blocks - 1:
            self._made = None
        return without_front(args, output, self.count)

    _made: Any = None


def _layers(part: str, module: nn.Module, block: nn.Module, width: int) -> list[tuple[nn.Module, str]]:
    """Return the layers of a block that make keys and values, each with what it makes, such as `qkv`."""
    found: list[tuple[nn.Module, str]] = []
    for name, layer in block.named_modules():
        if not isinstance(layer, nn.Linear) or not KEYS_AND_VALUES.fullmatch(name):
            continue
        last = re.sub(r"^Wqkv$|^query_key_value$", "qkv", name.rpartition(".")[2])
        which = last if last in ("qkv", "kv") else last[0]
        if layer.out_features != width * len(which):
            raise no_tokens(part, module, f"{name} has {layer.out_features} outputs for tokens of {width}")
        found.append((layer, which))
    if sorted("".join(which for _, which in found).replace("q", "")) != ["k", "v"]:
        raise no_tokens(part, module, "its attention has no layers of its own for keys and values")
    return found
