"""Linear layers that add their bias inside the product, on a CPU."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.plain_attention import computed_in
from mmexp.processor import has_bf16

# Measured on an AMD EPYC with avx512_bf16. For fewer rows or smaller weights, the gradient of the weight and the calls cost more
# than the fused bias saves. On a CPU with AVX2 alone the convolution takes 1.1 to 1.9 times as long, so it is never used there.
_ROWS = 4096
_WEIGHTS = 2**15
_PRECISIONS = (torch.bfloat16, torch.float32)


def linear(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute what `F.linear` does, as a 1x1 convolution where that is faster.

    PyTorch adds the bias, and sums its gradient, in separate passes over all rows; in a convolution oneDNN does both during the
    product.

    Args:
        tokens: (..., D).
        weight: (E, D).
        bias: (E,) or None.

    Returns:
        (..., E).
    """
    if bias is None or tokens.device.type != "cpu" or torch.compiler.is_compiling() or not _pays(tokens, weight):
        return F.linear(tokens, weight, bias)
    pixels = tokens.reshape(1, -1, 1, tokens.shape[-1]).permute(0, 3, 1, 2)
    return F.conv2d(pixels, weight[:, :, None, None], bias).permute(0, 2, 3, 1).reshape(*tokens.shape[:-1], -1)


def _pays(tokens: Tensor, weight: Tensor) -> bool:
    if not has_bf16():
        return False
    large = weight.numel() >= _WEIGHTS and tokens.numel() >= _ROWS * tokens.shape[-1]
    return large and computed_in(tokens.device, tokens.dtype) in _PRECISIONS


class Linear(nn.Linear):
    """Torch's own by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return what torch's forward returns."""
        return linear(input, self.weight, self.bias)


def hasten(model: nn.Module) -> None:
    """Have every linear layer of torch's in a model be a `Linear`."""
    for part in model.modules():
        if type(part) is nn.Linear:
            part.__class__ = Linear
