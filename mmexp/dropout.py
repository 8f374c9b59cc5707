"""Dropout whose random numbers cost a third on a CPU: four from each draw, by torch's own generator."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_STEPS = 2**16


def dropout(values: Tensor, rate: float, training: bool = True) -> Tensor:
    """Do what `F.dropout` does (Srivastava and others, 2014), with other draws; a rate counts to 1/65536.

    Torch draws one Bernoulli number after the other there, and takes as long as the product before it.
    """
    if not training or rate == 0:
        return values
    if values.device.type != "cpu" or rate == 1 or torch.compiler.is_compiling():
        return F.dropout(values, rate, training)
    count = values.numel()
    drawn = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count]
    # In floats, for torch turns booleans into them one by one.
    kept = drawn.view(values.shape).float().ge_(round(rate * _STEPS) - _STEPS // 2).mul_(1 / (1 - rate))
    return values * kept.to(values.dtype)


class Dropout(nn.Dropout):
    """Torch's own by `dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return what torch's forward returns."""
        return dropout(input, self.p, self.training)


def hasten(model: nn.Module) -> None:
    """Have every dropout of torch's in a model be a `Dropout`."""
    for part in model.modules():
        if type(part) is nn.Dropout and not part.inplace:
            part.__class__ = Dropout
