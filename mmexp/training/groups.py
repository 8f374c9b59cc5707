"""What every optimizer is given: the trained weights in groups, each with its own rate and decay."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn, optim

from mmexp.training.decay import kinds_of
from mmexp.types import Fraction, PositiveFloat

Group = dict[str, Any]
"""`params`, the factor `lr_scale` on the rate, whether they are matrices of `hidden` layers, whether they are `pretrained`;
`weight_decay` 0 where nothing decays, else it is left to the optimizer.
"""

_NUMBERED = re.compile(r"(.*?\.)?\d+\.")


@dataclass(frozen=True)
class Stepping:
    """How a step is taken, whatever the optimizer: the keys that all of them share.

    Gradients longer than `clip_norm`, all taken as one vector, are shortened to it. The rate of a layer of an encoder is
    `layer_decay` times that of the layer above. Without `decay_embeddings` word vectors do not decay. Pretrained weights learn
    at `pretrained_lr` where the optimizer's rate is higher.
    """

    clip_norm: PositiveFloat | None = None
    pretrained_lr: PositiveFloat | None = None
    layer_decay: Fraction = 1.0
    decay_embeddings: bool = True

    def optimizer(self, make: Callable[[list[Group]], optim.Optimizer], task: nn.Module) -> optim.Optimizer:
        """Return what `make` makes of the groups of what the task trains."""
        optimizer = make(parameter_groups(task, self.layer_decay, self.decay_embeddings))
        for group in optimizer.param_groups:
            if group["pretrained"] and self.pretrained_lr:
                group["lr_scale"] *= min(1.0, self.pretrained_lr / group["lr"])
            group["lr"] *= group["lr_scale"]
        return optimizer


def parameter_groups(module: nn.Module, layer_decay: float = 1.0, decay_embeddings: bool = True) -> list[Group]:
    """Return the groups of what is trained of a task, or of any module.

    Weights of layers decay (`mmexp.training.decay`), and word vectors with `decay_embeddings`. A layer `d` below the heads and
    the fusion learns at `layer_decay ** d` (BEiT, arXiv:2106.08254, appendix).
    """
    layers, kinds, pretrained = _layers(module), kinds_of(module), pretrained_weights(module)
    groups = dict[tuple[float, bool, bool, bool], Group]()
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        below, hidden = layers.get(name, (0, name.startswith("model.fusion.")))
        # A depthwise convolution has a single column, and is no matrix.
        hidden = hidden and kinds[name] == "weight" and parameter.ndim > 1 and min(parameter.shape[:2]) > 1
        decays = kinds[name] == "weight" or (kinds[name] == "embedding" and decay_embeddings)
        key = (layer_decay**below, decays, hidden, name in pretrained)
        new: Group = {"params": [], "lr_scale": key[0], "hidden": hidden, "pretrained": key[3]}
        groups.setdefault(key, new | ({} if decays else {"weight_decay": 0.0}))["params"].append(parameter)
    return list(groups.values())


def pretrained_weights(module: nn.Module) -> set[str]:
    """Return the names of the pretrained weights that are trained: of towers, and of projections that start as a tower's own.

    What an adapter adds to a tower is none of them. The projections count where weights of their tower do.

    Args:
        module: a task, with a `model` (`mmexp.model.Model`) and `objectives`; of any other module nothing is pretrained.
    """
    names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    found: set[str] = set()
    for part, added in getattr(getattr(module, "model", None), "pretrained", {}).items():
        found |= {n for n in names if n.startswith(f"model.{part}.") and not (added and added in n)}
    towers = {name.split(".")[2] for name in found}
    objectives: Any = getattr(module, "objectives", None)
    for objective, head in objectives.items() if towers else ():
        place, space = ("space.", head.space) if hasattr(head, "space") else ("", head)
        for modality in towers & set(getattr(space, "pretrained", ())):
            found |= {n for n in names if n.startswith(f"objectives.{objective}.{place}heads.{modality}.")}
    return found


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
    """Return the layers as `timm.optim.param_groups_layer_decay` counts them for the same model with its classifier.

    In the classifier's layer, that of our heads, are also the norms behind the pooling (`fc_norm`, `head.norm`).
    """
    from timm.models._manipulate import group_with_matcher

    classifier = model.default_cfg.get("classifier", "head")
    head = f"{classifier if isinstance(classifier, str) else classifier[0]}.weight"
    names = [(name, None) for name in dict.fromkeys([*(name for name, _ in model.named_parameters()), head])]
    own = group_with_matcher(iter(names), model.group_matcher(coarse=False), reverse=True)
    return {name: own.get(name.removeprefix(prefix), own[head]) for name, _ in encoder.named_parameters()}, own[head]
