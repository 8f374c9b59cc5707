"""Linear layers that compute with small integers."""

import warnings
from typing import Any

import torch
from torch import nn

from mmexp.errors import RequestError


def quantize(module: nn.Module, how: str) -> None:
    """Have the linear layers of a module compute with integers, on a CPU.

    `int8`: weights a scale a row and activations as they come (PyTorch's dynamic quantization, the one that is fast on a CPU
    without a compiler). `int8_weights`, `int4_weights`: weights alone, by torchao.
    """
    with warnings.catch_warnings():
        # PyTorch says that torchao will stand for it; its int8 is slower than fp32 there unless it is compiled.
        warnings.simplefilter("ignore")
        if how == "int8":
            from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

            torch.backends.quantized.engine = (
                "x86" if "x86" in torch.backends.quantized.supported_engines else "qnnpack"
            )
            quantize_dynamic(module, {nn.Linear: per_channel_dynamic_qconfig}, inplace=True)
            return
        from torchao.quantization import IntxWeightOnlyConfig, quantize_
        from torchao.quantization.granularity import PerAxis, PerGroup

        if how == "int8_weights":
            quantize_(module, IntxWeightOnlyConfig(torch.int8, PerAxis(0)))
        else:
            config = IntxWeightOnlyConfig(getattr(torch, "int4"), PerGroup(32))  # noqa: B009
            quantize_(module, config, lambda layer, _: isinstance(layer, nn.Linear) and not layer.in_features % 32)


def train_as_if(module: nn.Module) -> None:
    """Let linear layers be trained as if they computed with int8: rounded in the forward, passed straight through behind.

    By torchao (arXiv:1712.05877). Raises RequestError where it is not installed.
    """
    try:
        from torchao.quantization import quantize_
        from torchao.quantization.qat import IntxFakeQuantizeConfig, QATConfig
    except ImportError as error:
        raise RequestError("compression.aware=true needs torchao: pip install 'mmexp[compress]'.") from error
    rounded: Any = QATConfig(
        activation_config=IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False),
        weight_config=IntxFakeQuantizeConfig(torch.int8, "per_channel"),
        step="prepare",
    )
    quantize_(module, rounded)
