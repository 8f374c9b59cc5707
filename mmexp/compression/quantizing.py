"""Linear layers that compute with small integers."""

import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from mmexp.errors import RequestError

# What is said of single layers, found out by running them.
CHOSEN = ("int8_static", "int8_mixed")


@contextmanager
def quietly() -> Iterator[None]:
    """Keep back what PyTorch says of its own integers: that torchao will stand for them.

    Torchao's int8 is slower than fp32 on a CPU unless it is compiled.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def engine() -> str:
    """Return what multiplies integers on this CPU, and have PyTorch use it."""
    found = "x86" if "x86" in torch.backends.quantized.supported_engines else "qnnpack"
    torch.backends.quantized.engine = found
    return found


def linear_layers(module: nn.Module) -> dict[str, nn.Linear]:
    """Return the layers that may compute with int8, by their names."""
    return {name: layer for name, layer in module.named_modules() if type(layer) is nn.Linear}


def left_whole(module: nn.Module, how: str, chosen: Collection[str]) -> set[str]:
    """Return the weights of the linear layers that do not compute with integers, where these were chosen."""
    layers = linear_layers(module) if how == "int8_mixed" else {}
    return {f"{name}.weight" for name in layers if name not in chosen}


def quantize(module: nn.Module, how: str, chosen: Mapping[str, Tensor] = MappingProxyType({})) -> None:
    """Have the linear layers of a module compute with integers, on a CPU.

    `int8`: weights a scale a row and activations as they come (PyTorch's dynamic quantization, the one that is fast on a CPU
    without a compiler), `int8_mixed` that of the `chosen` layers alone. `int8_static`: of the chosen layers too, by the ranges
    that `calibrate` found. `int8_weights`, `int4_weights`: weights alone, by torchao.
    """
    with quietly():
        if how == "int8_static":
            for name, ranges in chosen.items():
                module.set_submodule(name, _static(module.get_submodule(name), ranges))
        elif how in ("int8", "int8_mixed"):
            from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

            engine()
            layers: Any = {nn.Linear} if how == "int8" else set(chosen)
            quantize_dynamic(module, dict.fromkeys(layers, per_channel_dynamic_qconfig), inplace=True)
        else:
            _weights_alone(module, how)


def _weights_alone(module: nn.Module, how: str) -> None:
    from torchao.quantization import IntxWeightOnlyConfig, quantize_
    from torchao.quantization.granularity import PerAxis, PerGroup

    if how == "int8_weights":
        quantize_(module, IntxWeightOnlyConfig(torch.int8, PerAxis(0)))
    else:
        config = IntxWeightOnlyConfig(getattr(torch, "int4"), PerGroup(32))  # noqa: B009
        quantize_(module, config, lambda layer, _: isinstance(layer, nn.Linear) and not layer.in_features % 32)


def _static(layer: nn.Module, ranges: Tensor) -> nn.Module:
    """Return a layer that rounds what goes in and what comes out by `ranges (4,)`, their scales and zero points."""
    from torch.ao.quantization import (
        FixedQParamsObserver,
        QConfig,
        QuantWrapper,
        convert,
        get_default_qconfig,
        prepare,
    )

    default = get_default_qconfig(engine())
    top: Any = default.activation()
    how = {"dtype": top.dtype, "quant_min": top.quant_min, "quant_max": top.quant_max}
    scale, zero, scale_out, zero_out = ranges.tolist()
    wrapped: Any = QuantWrapper(layer.eval())
    seen = FixedQParamsObserver.with_args(scale=scale, zero_point=int(zero), **how)
    said = FixedQParamsObserver.with_args(scale=scale_out, zero_point=int(zero_out), **how)
    wrapped.quant.qconfig = QConfig(seen, default.weight)
    wrapped.module.qconfig = wrapped.dequant.qconfig = QConfig(said, default.weight)
    return convert(prepare(wrapped))


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
