"""What is found out before layers compute with integers: the ranges of what they see and say, and how much each one suffers."""

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from mmexp.compression.quantizing import engine, linear_layers, quantize, quietly


def calibrate(module: nn.Module, ask: Callable[[], object]) -> dict[str, Tensor]:
    """Return for each linear layer that `ask` runs (4,): scale and zero point of what goes in, and of what comes out.

    By PyTorch's histograms, whose range loses the least in the mean square. The module is as before.
    """
    from torch.ao.quantization import get_default_qconfig

    with quietly():
        histogram = get_default_qconfig(engine()).activation
        seen, said = ({name: histogram() for name in linear_layers(module)} for _ in range(2))

    def watch(name: str) -> Callable[..., None]:
        def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen[name](inputs[0].detach())
            said[name](output.detach())

        return note

    handles = [layer.register_forward_hook(watch(name)) for name, layer in linear_layers(module).items()]
    with quietly():
        ask()
        ran = [name for name, observer in seen.items() if observer.min_val.isfinite()]
        found = {name: [*seen[name].calculate_qparams(), *said[name].calculate_qparams()] for name in ran}
    for handle in handles:
        handle.remove()
    return {name: torch.tensor([float(number) for number in numbers]) for name, numbers in found.items()}


def sensitivities(module: nn.Module, ask: Callable[[], Mapping[str, Tensor]]) -> dict[str, float]:
    """Return for each linear layer how far what `ask` returns is off when that layer alone computes with int8.

    That is the mean over its tensors (N, ...) of |changed - own|² / |own|². The module is as before.
    """
    own, found = ask(), {}
    for name, layer in linear_layers(module).items():
        quantize(module, "int8_mixed", {name: torch.empty(0)})
        changed = ask()
        off = [(changed[key] - one).float().square().sum() / one.float().square().sum() for key, one in own.items()]
        found[name] = torch.stack(off).mean().item()
        # Left on it, PyTorch's note would have the layer made integers again with the next one.
        vars(layer).pop("qconfig", None)
        module.set_submodule(name, layer)
    return found


def robust(found: Mapping[str, float], share: float) -> Collection[str]:
    """Return the layers that are left when the most sensitive `share` of them, rounded up, is taken away."""
    ordered = sorted(found, key=lambda name: found[name])
    return ordered[: int(len(ordered) * (1 - share))]
