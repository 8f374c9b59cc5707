"""Peft's LoRA beside a linear layer, without what it does for cases that are not ours."""

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.nn import functional as F


class LoraLinear(Linear):
    """Peft's own where its update is scaled and added by the product itself, and what comes in is cast once for both ways.

    Peft casts it to the type of A, which autocast takes back, and has three passes over what goes out.
    """

    def forward(self, x: Tensor, *args: Any, **named: Any) -> Tensor:
        """Return what peft's forward returns, x W + alpha / r (x A) B, rounded once."""
        name = self._plain(x) if not args and not named else None
        if name is None:
            return super().forward(x, *args, **named)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        layer: Any = self
        base = layer.base_layer(x)
        low = F.linear(layer.lora_dropout[name](x), layer.lora_A[name].weight).flatten(0, -2)
        update = layer.lora_B[name].weight.t()
        return torch.addmm(base.flatten(0, -2), low, update, alpha=self.scaling[name]).view(base.shape)

    def _plain(self, x: Tensor) -> str | None:
        """Return the one adapter's name, None where there is more to it."""
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return None
        name = self.active_adapters[0]
        weight = self.lora_A[name].weight
        fits = x.dtype == weight.dtype or torch.is_autocast_enabled(x.device.type)
        return name if fits and name not in self.lora_variant and self.lora_B[name].bias is None else None


def hasten(layer: nn.Module) -> None:
    """Have a layer of peft's be a `LoraLinear`, if it is beside a plain linear one."""
    if type(layer) is Linear and type(layer.get_base_layer()) is nn.Linear:
        layer.__class__ = LoraLinear
