"""Peft's LoRA beside a linear layer, without what it does for cases that are not ours."""

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class Updated(torch.autograd.Function):
    """`x W + b + scale (x A) B` of a frozen layer and its update as one step of the graph, each pass over rows made once.

    Autograd would copy what the layer says to add the update, and add up two gradients of `x (N, D)` in a pass of their own.
    """

    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        """Return the rows (N, E), of `x (N, D)`, `weight (E, D)`, `bias (E,)`, `down (R, D)` and `up (E, R)`."""
        low, said = F.linear(x, down), F.linear(x, weight, bias)
        context.save_for_backward(x, low, weight, down, up)
        context.scale = scale
        return torch.addmm(said, low, up.t(), alpha=scale, out=said)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, A and B; the layer itself is frozen."""
        x, low, weight, down, up = context.saved_tensors
        back = (gradient @ up).mul_(context.scale)
        of_x = None
        if context.needs_input_grad[0]:
            of_x = gradient @ weight
            torch.addmm(of_x, back, down, out=of_x)
        # The narrow matrix first: the other way round takes twice as long.
        return of_x, None, None, back.t() @ x, (low.t() @ gradient).mul_(context.scale).t(), None


class LoraLinear(Linear):
    """Peft's own where layer and update are one step (`Updated`), and what comes in is cast once for both ways.

    Peft casts it to the type of A, which autocast takes back, and has three passes over what goes out.
    """

    def forward(self, x: Tensor, *args: Any, **named: Any) -> Tensor:
        """Return what peft's forward returns, x W + alpha / r (x A) B, rounded once."""
        name = self._plain(x) if not args and not named else None
        if name is None:
            return super().forward(x, *args, **named)
        dtype, layer = x.dtype, self.get_base_layer()
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
        parts = (layer.weight, layer.bias, self.lora_A[name].weight, self.lora_B[name].weight)
        weight, bias, down, up = (None if part is None else part.to(dtype) for part in parts)
        said = Updated.apply(x.to(dtype).flatten(0, -2), weight, bias, down, up, self.scaling[name])
        return said.view(*x.shape[:-1], -1)

    def _plain(self, x: Tensor) -> str | None:
        """Return the one adapter's name, None where there is more to it."""
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1 or torch.compiler.is_compiling():
            return None
        name, layer = self.active_adapters[0], self.get_base_layer()
        drops = isinstance(self.lora_dropout[name], nn.Dropout) and self.training
        learns = any(own.requires_grad for own in layer.parameters())
        fits = x.dtype == self.lora_A[name].weight.dtype or torch.is_autocast_enabled(x.device.type)
        more = name in self.lora_variant or self.lora_B[name].bias is not None
        return name if fits and not (drops or learns or more) else None


def hasten(layer: nn.Module) -> None:
    """Have a layer of peft's be a `LoraLinear`, if it is beside a plain linear one."""
    if type(layer) is Linear and type(layer.get_base_layer()) is nn.Linear:
        layer.__class__ = LoraLinear
