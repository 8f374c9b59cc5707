"""Weights in and out: what of a stored model fits into this one, part by part."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from mmexp.compression.packing import unpacked
from mmexp.errors import RequestError, nearest

Weights = Mapping[str, Tensor]
# Beside the weights of a compressed run: the layers that compute with int8, and the ranges of those that need them.
QUANTIZATION = "quantization."


@dataclass
class Loaded:
    """Which parts were loaded from `source` and how many weights each has, of the others why not, and what was left there.

    `left` maps parts of the source that have no counterpart here, or that do not fit it, to their number of weights. `prefix`
    was removed from the beginning of the names there.
    """

    source: str
    parts: dict[str, int] = field(default_factory=dict)
    fresh: dict[str, str] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    prefix: str = ""

    def __str__(self) -> str:
        lines = [f"{self.source}: {', '.join(self.parts) or 'nothing'}"]
        return "; ".join([*lines, *(f"{part} starts fresh: {why}" for part, why in self.fresh.items())])

    def told(self) -> str:
        """Return what a person wants to know before the run goes on: a line for the source, and one for each part."""
        removed = f"; prefix '{self.prefix}' removed from their names" if self.prefix else ""
        size = max(map(len, (*self.parts, *self.fresh, *self.left)), default=0)
        return "\n".join(
            [
                f"weights from {self.source}: {sum(self.parts.values()):,} loaded{removed}",
                *(f"  loaded  {part:<{size}}  {count:,}" for part, count in self.parts.items()),
                *(f"  fresh   {part:<{size}}  {why}" for part, why in self.fresh.items()),
                *(f"  left    {part:<{size}}  {count:,} there, unused" for part, count in self.left.items()),
            ]
        )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file or a checkpoint, small integers as the numbers that they stand for.

    Nothing in it is executed. Raises RequestError.
    """
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else [])
        raise RequestError(f"'{path}': no such weights file.{near}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return unpacked(load_file(path))
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RequestError(f"'{path}' cannot be read as weights: {str(error).splitlines()[0]}") from error
    found = stored.get("state_dict", stored) if isinstance(stored, Mapping) else {}
    # What a balance learned, a method against forgetting kept, and a teacher that followed its student are of that one
    # training, not of the model.
    passing = ("balance.", "continual.", "teacher.", QUANTIZATION)
    tensors = {name: tensor for name, tensor in found.items() if not str(name).startswith(passing)}
    if not tensors or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise RequestError(f"'{path}' holds no state_dict of tensors.")
    return unpacked(tensors)


def read_quantization(path: Path) -> dict[str, Tensor]:
    """Return of a checkpoint which layers of its model were chosen to compute with int8, and with which ranges; maybe none."""
    stored = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {name.removeprefix(QUANTIZATION): one for name, one in stored.items() if name.startswith(QUANTIZATION)}


def part_of(name: str) -> str:
    """Return the part that a parameter belongs to: `model.encoders.image.x` -> `encoders.image`.

    The common space that an objective takes over is a part of its own, `objectives.<name>.space`.
    """
    words = name.removeprefix("model.").split(".")
    if words[0] == "objectives" and words[2] == "space":
        return ".".join(words[:3])
    return ".".join(words[:2]) if words[0] in ("encoders", "alignment", "objectives") else words[0]


def by_part(weights: Weights) -> dict[str, dict[str, Tensor]]:
    """Group tensors by the part that they belong to."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        parts.setdefault(part_of(name), {})[name] = tensor
    return parts


def with_spaces(own: Weights, weights: Weights, spaces: Mapping[str, str]) -> dict[str, Tensor]:
    """Return `weights` that also offer what `own` has as the space of an objective, taken from the one it names.

    `spaces` goes from an objective to that of the loaded weights whose heads it takes over.
    """
    offered = dict(weights)
    for name, source in spaces.items():
        prefix = f"objectives.{name}.space."
        theirs = {key: key.replace(prefix, f"objectives.{source}.", 1) for key in own if key.startswith(prefix)}
        offered = {key: weights[there] for key, there in theirs.items() if there in weights} | offered
    return offered


def load_parts(
    module: nn.Module, weights: Weights, source: str, unlike: Mapping[str, str] = MappingProxyType({})
) -> Loaded:
    """Copy `weights` into every part of `module` that they fit whole. Raises RequestError where no part of the model fits.

    `unlike` tells of parts which their weights do not fit, whatever their shapes, why not.
    """
    offered, result = by_part(weights), Loaded(source)
    for part, own in by_part(module.state_dict()).items():
        why = unlike.get(part) or misfit(own, offered.get(part, {}))
        if why:
            result.fresh[part] = why
        else:
            result.parts[part] = _count(own)
    result.left = {part: _count(there) for part, there in offered.items() if part not in result.parts}
    if not any(part.startswith("encoders.") for part in result.parts):
        raise RequestError(f"these weights fit no encoder of this model: {result}.")
    chosen = {name: t for part in result.parts for name, t in offered[part].items()}
    own = module.state_dict()
    module.load_state_dict({name: t.to(own[name].dtype) for name, t in chosen.items()}, strict=False)
    return result


def _count(weights: Weights) -> int:
    return sum(tensor.numel() for tensor in weights.values())


def misfit(own: Weights, offered: Weights) -> str | None:
    """Return why `offered` weights do not fit a part whole, None where they do."""
    if not offered:
        return "not among the weights"
    for name, tensor in own.items():
        if name not in offered:
            return f"{name} is not among the weights"
        if offered[name].shape != tensor.shape:
            return f"{name} is {tuple(offered[name].shape)} there and {tuple(tensor.shape)} here"
    extra = next((name for name in offered if name not in own), None)
    return f"{extra} has no place here" if extra else None
