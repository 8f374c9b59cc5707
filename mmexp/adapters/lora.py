"""LoRA (arXiv:2106.09685) by peft: frozen weights, each with a trained low-rank update beside it."""

import re
from typing import Any

from torch import nn

from mmexp.adapters.parts import parts
from mmexp.errors import RequestError
from mmexp.types import Fraction, PositiveInt


class Lora:
    """Wrap the layers that each part names as its `adapter_targets`, or those matching `targets` (a regular expression).

    A starts Gaussian and B zero, so the adapted model starts as the one it was made from. Parts without loaded weights
    (`fresh`) are trained in full: there is nothing to adapt.
    """

    needs_weights = True

    def __init__(
        self,
        rank: PositiveInt = 8,
        alpha: PositiveInt = 16,
        dropout: Fraction = 0.0,
        targets: str | None = None,
    ):
        self.rank, self.alpha, self.dropout, self.targets = rank, alpha, dropout, targets

    def apply(self, model: nn.Module, fresh: set[str]) -> None:
        """Inject the low-rank layers and freeze the rest of each part. Raises RequestError where nothing matches."""
        for name, part in parts(model):
            if name in fresh or not any(True for _ in part.parameters()):
                continue
            part.requires_grad_(False)
            pattern = self.targets or getattr(part, "adapter_targets", None)
            if pattern is not None:
                self._inject(name, part, pattern)

    def _inject(self, name: str, part: nn.Module, pattern: str) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        linear = [layer for layer, module in part.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
        if not any(re.fullmatch(pattern, layer) for layer in linear):
            raise RequestError(
                f"adapter.targets: '{pattern}' matches no layer of {name}. "
                f"Its layers are: {', '.join(linear[:6])}{', ...' if len(linear) > 6 else ''}"
            )
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=pattern,
            init_lora_weights="gaussian",
        )
        inject_adapter_in_model(config, part)
        _dilate(part)

    def merge(self, model: nn.Module) -> None:
        """Fold every update into its weight, so that the model has the names and the speed it had before."""
        from peft.tuners.lora import LoraLayer

        layers = [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]
        for name, layer in layers:
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())


def _dilate(part: nn.Module) -> None:
    """Let the first half of each update look where its convolution looks: peft leaves the dilation out."""
    from peft.tuners.lora import LoraLayer

    for layer in part.modules():
        base: Any = layer.get_base_layer() if isinstance(layer, LoraLayer) else None
        if isinstance(base, nn.Conv2d):
            downs: Any = layer.lora_A
            for down in downs.values():
                down.dilation = base.dilation
