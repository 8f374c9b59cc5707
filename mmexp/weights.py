"""Weights in and out: what of a stored model fits into this one, part by part."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from mmexp.errors import RequestError, nearest

Weights = Mapping[str, Tensor]


@dataclass
class Loaded:
    """Which parts were loaded from `source`, and of the others why not."""

    source: str
    parts: list[str] = field(default_factory=list)
    fresh: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.source}: {', '.join(self.parts) or 'nothing'}"]
        return "; ".join([*lines, *(f"{part} starts fresh: {why}" for part, why in self.fresh.items())])


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file or a checkpoint. Nothing in it is executed. Raises RequestError."""
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else [])
        raise RequestError(f"'{path}': no such weights file.{near}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RequestError(f"'{path}' cannot be read as weights: {str(error).splitlines()[0]}") from error
    found = stored.get("state_dict", stored) if isinstance(stored, Mapping) else {}
    # What a balance learned, or a method against forgetting kept, is of that one training, not of the model.
    tensors = {name: tensor for name, tensor in found.items() if not str(name).startswith(("balance.", "continual."))}
    if not tensors or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise RequestError(f"'{path}' holds no state_dict of tensors.")
    return tensors


def part_of(name: str) -> str:
    """Return the part that a parameter belongs to: `model.encoders.image.x` -> `encoders.image`."""
    words = name.removeprefix("model.").split(".")
    return ".".join(words[:2]) if words[0] in ("encoders", "objectives") else words[0]


def by_part(weights: Weights) -> dict[str, dict[str, Tensor]]:
    """Group tensors by the part that they belong to."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        parts.setdefault(part_of(name), {})[name] = tensor
    return parts


def load_parts(module: nn.Module, weights: Weights, source: str) -> Loaded:
    """Copy `weights` into every part of `module` that they fit whole. Raises RequestError where no part of the model fits."""
    offered, result = by_part(weights), Loaded(source)
    for part, own in by_part(module.state_dict()).items():
        why = _misfit(own, offered.get(part, {}))
        if why:
            result.fresh[part] = why
        else:
            result.parts.append(part)
    if not any(part.startswith("encoders.") for part in result.parts):
        raise RequestError(f"these weights fit no encoder of this model: {result}.")
    chosen = {name: t for part in result.parts for name, t in offered[part].items()}
    own = module.state_dict()
    module.load_state_dict({name: t.to(own[name].dtype) for name, t in chosen.items()}, strict=False)
    return result


def _misfit(own: Weights, offered: Weights) -> str | None:
    if not offered:
        return "not among the weights"
    for name, tensor in own.items():
        if name not in offered:
            return f"{name} is not among the weights"
        if offered[name].shape != tensor.shape:
            return f"{name} is {tuple(offered[name].shape)} there and {tuple(tensor.shape)} here"
    extra = next((name for name in offered if name not in own), None)
    return f"{extra} has no place here" if extra else None
