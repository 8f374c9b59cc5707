"""What the adapters of the peft library share: putting their layers into a part, and folding them into its weights."""

import re
from typing import Any

from torch import nn

from mmexp.adapters.layers import Named, key_of
from mmexp.errors import RequestError


def refuse_fused(part: str, layers: Named, what: str) -> None:
    """Raise RequestError where one of the layers is a fused attention, on which peft cannot do `what`."""
    fused = next((name for name, layer in layers.items() if isinstance(layer, nn.MultiheadAttention)), None)
    if fused:
        raise RequestError(
            f"{key_of(part)}: {part}.{fused} is a fused attention (nn.MultiheadAttention), where peft has no {what}. "
            f"Choose {key_of(part)}=lora, rslora, bottleneck or bitfit."
        )


def pattern_of(layers: Named) -> str:
    """Return the regular expression of exactly these layers: of a list peft would take names that end alike."""
    return "|".join(re.escape(name) for name in layers)


def inject(part: nn.Module, config: Any) -> None:
    """Put peft's layers beside those that `config` names, and freeze all others of the part."""
    from peft import inject_adapter_in_model
    from peft.tuners.lora.layer import LoraLayer, MultiheadAttention

    from mmexp.adapters.peft_linear import hasten

    part.requires_grad_(False)
    inject_adapter_in_model(config, part)
    for layer in part.modules():
        if isinstance(layer, LoraLayer):
            _dilate(layer)
            hasten(layer)
        if isinstance(layer, MultiheadAttention):
            layer.register_forward_pre_hook(_remember)
            layer.register_forward_hook(_put_back, always_call=True)


def _dilate(layer: Any) -> None:
    """Let the first half of an update look where its convolution looks: peft leaves the dilation out."""
    base = layer.get_base_layer()
    if isinstance(base, nn.Conv2d):
        for down in layer.lora_A.values():
            down.dilation = base.dilation


def _weights(layer: Any) -> list[tuple[Any, str]]:
    base = layer.get_base_layer()
    return [(base, "in_proj_weight"), (base.out_proj.get_base_layer(), "weight")]


def _remember(layer: Any, _: Any) -> None:
    layer.before = [getattr(owner, name) for owner, name in _weights(layer)]


def _put_back(layer: Any, *_: Any) -> None:
    """Put the frozen weights themselves back: peft takes its update off again, and so leaves a rounding in each step."""
    for (owner, name), weight in zip(_weights(layer), layer.before, strict=True):
        delattr(owner, name)
        owner.register_parameter(name, weight)
    del layer.before


def merge(part: nn.Module) -> None:
    """Fold every update into its weight, so that the part has the names and the speed it had before."""
    from peft.tuners.lora.layer import MultiheadAttention
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: list[tuple[str, Any]] = [
        (n, layer) for n, layer in part.named_modules() if isinstance(layer, BaseTunerLayer)
    ]
    fused = tuple(f"{name}." for name, layer in layers if isinstance(layer, MultiheadAttention))
    for name, layer in layers:
        if name.startswith(fused):
            continue  # with the attention that it is a part of
        if isinstance(layer, MultiheadAttention):
            part.set_submodule(name, layer.unload_and_optionally_merge_module(True, False, None))
        else:
            layer.merge()
            part.set_submodule(name, layer.get_base_layer())
