"""What every optimizer is given: the trained weights in groups, each with its own rate and decay."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn, optim

from mmexp.types import Fraction, PositiveFloat

Group = dict[str, Any]
"""`params`, the factor `lr_scale` on the rate, whether they are matrices of `hidden` layers; `weight_decay` 0 where nothing
decays, else it is left to the optimizer.
"""

# The names by which libraries and our own parts call a module's own positions and learned tokens, and `prompted` its words.
_TABLES = re.compile(r"(^|_)pos|token|embedding|context|bottleneck|nowhere|places|table")
_NUMBERED = re.compile(r"(.*?\.)?\d+\.")


@dataclass(frozen=True)
class Stepping:
    """How a step is taken, whatever the optimizer: the keys that all of them share.

    Gradients longer than `clip_norm`, all taken as one vector, are shortened to it. The rate of a layer of an encoder is
    `layer_decay` times that of the layer above. Without `decay_embeddings` word vectors, positions and learned tokens do
    not decay.
    """

    clip_norm: PositiveFloat | None = None
    layer_decay: Fraction = 1.0
    decay_embeddings: bool = True

    def optimizer(self, make: Callable[[list[Group]], optim.Optimizer], task: nn.Module) -> optim.Optimizer:
        """Return what `make` makes of the groups of what the task trains."""
        optimizer = make(parameter_groups(task, self.layer_decay, self.decay_embeddings))
        for group in optimizer.param_groups:
            group["lr"] *= group["lr_scale"]
        return optimizer


def parameter_groups(module: nn.Module, layer_decay: float = 1.0, decay_embeddings: bool = True) -> list[Group]:
    """Return the groups of what is trained of a task, or of any module.

    Matrices decay, norms, biases and temperatures do not, as in CLIP and most others. A layer `d` below the heads and the
    fusion learns at `layer_decay ** d` (BEiT, arXiv:2106.08254, appendix).
    """
    layers, tables, groups = _layers(module), _tables(module), dict[tuple[float, bool, bool], Group]()
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        below, hidden = layers.get(name, (0, name.startswith("model.fusion.")))
        # A depthwise convolution has a single column, and is no matrix.
        hidden = hidden and parameter.ndim > 1 and min(parameter.shape[:2]) > 1 and name not in tables
        decays = parameter.ndim > 1 and (decay_embeddings or name not in tables)
        key = (layer_decay**below, decays, hidden)
        new: Group = {"params": [], "lr_scale": key[0], "hidden": hidden, **({} if decays else {"weight_decay": 0.0})}
        groups.setdefault(key, new)["params"].append(parameter)
    return list(groups.values())


def _layers(module: nn.Module) -> dict[str, tuple[int, bool]]:
    """Return of each weight of an encoder how many layers it is below the top, and whether it is above the input's."""
    encoders = getattr(getattr(module, "model", None), "encoders", None)
    found: dict[str, tuple[int, bool]] = {}
    for modality, encoder in encoders.items() if encoders else ():
        numbers, top = _numbers(encoder)
        found |= {f"model.encoders.{modality}.{name}": (top - i, i > 0) for name, i in numbers.items()}
    return found


def _numbers(encoder: nn.Module) -> tuple[dict[str, int], int]:
    """Return the layer of each weight, 0 for what takes the input and then block by block, and the number of what follows.

    timm's models say themselves which weights are a layer; else it is what a list of modules numbers.
    """
    for prefix, part in encoder.named_modules():
        if hasattr(part, "group_matcher"):
            return _by_timm(encoder, f"{prefix}." if prefix else "", part)
    names = [name for name, _ in encoder.named_parameters()]
    blocks = {name: match[0] for name in names if (match := _NUMBERED.match(name))}
    order = list(dict.fromkeys(blocks.values()))
    found, last = {}, 0
    for name in names:
        last = order.index(blocks[name]) + 1 if name in blocks else last
        found[name] = last if name in blocks or last < len(order) else len(order) + 1
    return found, len(order) + 1


def _by_timm(encoder: nn.Module, prefix: str, model: Any) -> tuple[dict[str, int], int]:
    from timm.models import group_parameters

    own = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    top = max(own.values()) + 1
    return {name: own.get(name.removeprefix(prefix), top) for name, _ in encoder.named_parameters()}, top


def _tables(module: nn.Module) -> set[str]:
    """Return the names of word vectors, positions and learned tokens, and of what timm and open_clip list as such."""
    return {
        f"{path}.{name}".removeprefix(".") for path, part in module.named_modules() for name in _own_tables(path, part)
    }


def _own_tables(path: str, part: Any) -> Iterator[str]:
    if hasattr(part, "no_weight_decay"):
        yield from part.no_weight_decay()
    for name, _ in part.named_parameters(recurse=False):
        # What a dictionary holds is called by modalities; the dictionary says what it is.
        called = path.rpartition(".")[2] if isinstance(part, nn.ParameterDict) else name
        if isinstance(part, nn.Embedding) or _TABLES.search(called):
            yield name
