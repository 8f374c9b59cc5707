"""Where each tower's weights come from, and towers that are taken from another run."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mmexp.build.making import Config
from mmexp.build.parts import run_of
from mmexp.build.restoring import restore
from mmexp.errors import RequestError
from mmexp.model import Model
from mmexp.types import Adapter
from mmexp.weights import misfit

# A text whose tokens tell one tokenizer from another.
_PROBE = "A photographically unreal cat: 2 moons."
# What an encoder's inputs are made by: pictures, sounds (in samples, bands and frames), videos.
_FED = ("mean", "std", "deviation", "rate", "length", "spectrogram_size", "frames")
_HEADS = ("heads", "num_heads", "num_attention_heads")


def comes_trained(node: Config, encoder: Any) -> bool:
    """Say whether an encoder brings trained weights of its own, or is to take those of a run."""
    return run_of(node) is not None or getattr(encoder, "pretrained", False)


def trained_towers(config: Config, built: Model, loaded: Collection[str]) -> dict[str, str]:
    """Load the towers that come from other runs. Return the modality of each that comes trained, and whose weights it has.

    Of the parts `loaded` before, an encoder's own weights are gone.
    """
    origins = {}
    for name, encoder in built.encoders.items():
        node = config["encoder"][name]
        if path := run_of(node):
            origins[name] = _taken(f"encoder.{name}.weights", name, encoder, path)
        elif comes_trained(node, encoder) and f"encoders.{name}" not in loaded:
            origins[name] = _named(node, encoder)
    return origins


def pretrained_parts(built: Model, adapters: Mapping[str, Adapter]) -> dict[str, str | None]:
    """Return the parts of encoders with pretrained weights that an adapter may train at a rate of their own.

    An encoder states by its attribute `pretrained` that its own keys name such weights. It counts where `init_from` has then
    loaded a later stage of them; a tower that was pretrained from scratch by a run of this project does not.

    Args:
        built: the model, before adapters were applied.
        adapters: the adapter of each part; what one with `full_rate` trains is left out.

    Returns:
        For each part, such as `encoders.image`, what the names of its adapter's weights contain, None where it adds none.
    """
    found = {}
    for name, encoder in built.encoders.items():
        adapter = adapters.get(f"encoders.{name}")
        if adapter is None or getattr(adapter, "full_rate", False):
            continue
        for path, part in encoder.named_modules():
            if getattr(part, "pretrained", False) is True:
                found[f"encoders.{name}.{path}".removesuffix(".")] = adapter.added
    return found


def _named(node: Mapping[str, Any], encoder: Any) -> str:
    """Return how a person names the weights that an encoder loaded itself, and what was found of them."""
    if "name" not in node and "image" in node:  # a video's picture encoder
        node, encoder = node["image"], encoder.image
    tag = node.get("pretrained")
    named = node.get("weights") or (f"{node['name']}, {tag}" if isinstance(tag, str) else node["name"])
    report = getattr(encoder, "weights_report", "")
    return f"{named}: {report}" if report else str(named)


def _taken(key: str, name: str, encoder: nn.Module, path: Path) -> str:
    """Copy the tower `name` of the run at `path` into `encoder`, what an adapter had added merged."""
    try:
        theirs = restore(path)[0].encoders
        if name not in theirs:
            raise RequestError(f"'{path}' has no {name} tower; it has {', '.join(theirs)}.")
        weights = theirs[name].state_dict()
        if why := other_heads(encoder, theirs[name]) or misfit(encoder.state_dict(), weights):
            raise RequestError(f"the tower of '{path}' does not fit: {why}.")
        encoder.load_state_dict(weights)
        if what := _otherwise(encoder, theirs[name]):
            raise RequestError(f"'{path}' prepares its {name}s otherwise: {what}.")
    except RequestError as error:
        raise RequestError(f"{key}: {error}") from error
    return f"{path}, {sum(tensor.numel() for tensor in weights.values()):,} loaded"


def other_heads(own: nn.Module, theirs: nn.Module) -> str | None:
    """Return in what way the heads of attention are others, which no shape of a weight tells; None where they are not."""
    here, there = _heads(own), _heads(theirs)
    return None if here == there else f"it has {_said(there)} heads of attention there and {_said(here)} here"


def _heads(encoder: nn.Module) -> list[int]:
    """Return how many heads each attention has, by the names that ours and other libraries' have for it."""
    found = (getattr(module, name, None) for module in encoder.modules() for name in _HEADS)
    return [count for count in found if isinstance(count, int)]


def _said(heads: list[int]) -> str:
    return ", ".join(map(str, dict.fromkeys(heads))) or "no"


def _transformed_otherwise(own: Any, theirs: Any) -> str | None:
    """Return in what way pictures of the same size would be prepared otherwise, None where they would not."""
    for key in ("fit", "interpolation", "fill"):
        here, there = getattr(own, key), getattr(theirs, key)
        if here != there:
            return f"{key} is {there} there and {here} here"
    if own.scale * theirs.size != theirs.scale * own.size:
        return f"settings.crop_pct is {theirs.crop_pct:.3g} there and {own.crop_pct:.3g} here"
    return None


def _otherwise(own: Any, theirs: Any) -> str | None:
    """Return in what way one encoder would be fed otherwise than the other, None where it would not."""
    for what in _FED:
        here, there = getattr(own, what, None), getattr(theirs, what, None)
        if here != there:
            return f"{what} is {there} there and {here} here"
    if own.modality == "video":
        return _otherwise(own.image, theirs.image)
    if own.modality == "image" and (why := _transformed_otherwise(own.transform, theirs.transform)):
        return why
    if own.modality == "text" and own.prepare([_PROBE])["ids"].tolist() != theirs.prepare([_PROBE])["ids"].tolist():
        return "its tokenizer is another"
    return None
