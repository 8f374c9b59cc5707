"""Common spaces that objectives take over from loaded weights or a pretrained dual encoder, and what is reported of them."""

from collections.abc import Collection, Mapping
from math import exp
from typing import Any

from torch import Tensor, nn

from mmexp.build.making import Config
from mmexp.errors import RequestError, nearest
from mmexp.model import Model
from mmexp.shapes import ModelShape
from mmexp.signatures import signature
from mmexp.weights import Loaded


def keep_loaded_spaces(
    heads: Mapping[str, nn.Module], spaces: Mapping[str, str], loaded: Loaded, weights: Collection[str]
) -> None:
    """Freeze the common spaces that objectives took over, unless they train them.

    Args:
        heads: the objectives by name.
        spaces: of objectives with a space of their own the name of the one whose heads they take.
        loaded: what was loaded of the weights.
        weights: the names of the weights.

    Raises:
        RequestError: an objective has its space neither from the weights nor from a pretrained dual encoder.
    """
    for name, source in spaces.items():
        head: Any = heads[name]
        part = f"objectives.{name}.space"
        if part in loaded.parts or head.space.pretrained:
            head.space.requires_grad_(head.train_space)
            continue
        known = {key.split(".")[1] for key in weights if key.startswith("objectives.") and key.endswith(".log_scale")}
        raise RequestError(
            f"objective.{name}.space={source}: the loaded weights have no such common space ({loaded.fresh[part]})."
            f"{nearest(source, known)}"
        )


def keep_pretrained_spaces(heads: Mapping[str, nn.Module]) -> None:
    """Freeze the spaces that objectives have of a pretrained dual encoder, unless they train them."""
    head: Any
    for head in heads.values():
        if hasattr(head, "space") and head.space.pretrained:
            head.space.requires_grad_(head.train_space)


def pretrained_heads(built: Model, heads: Mapping[str, nn.Module], loaded: Collection[str]) -> dict[str, str]:
    """Return in words, by objective, where the heads on pretrained dual encoders start from.

    Args:
        built: the model.
        heads: the objectives by name.
        loaded: the parts that were loaded from other weights since; of these nothing is said.

    Returns:
        One line an objective; none where no encoder comes from a dual encoder.
    """
    spaces = built.pretrained_spaces()
    told = {}
    for name, objective in heads.items():
        space: Any = getattr(objective, "space", objective)
        if (
            not spaces
            or not hasattr(space, "pretrained")
            or {f"objectives.{name}", f"objectives.{name}.space"} & set(loaded)
        ):
            continue
        told[name] = _started(space, {n: one.source for n, one in spaces.items()})
    return told


def with_stored_heads(config: Config, weights: Mapping[str, Tensor], shape: ModelShape) -> Config:
    """Return the configuration by which objectives have the heads that weights were stored with.

    Runs whose heads did not start as the projections of a pretrained dual encoder have linear maps of one width.

    Args:
        config: the configuration of a run.
        weights: the stored weights by name.
        shape: the sizes of the model that the objectives are built for.

    Returns:
        `config`, with `pretrained_heads=false` and the stored `embed_dim` for objectives whose stored heads are such maps and
        do not fit the projections.
    """
    nodes = {name: {**node, **_stored_heads(name, node, weights, shape)} for name, node in config["objective"].items()}
    return config if nodes == config["objective"] else {**config, "objective": nodes}


def _stored_heads(name: str, node: Config, weights: Mapping[str, Tensor], shape: ModelShape) -> dict[str, Any]:
    """Return the keys of an objective by which its heads become the stored ones; none where they are so already."""
    if "pretrained_heads" not in signature(node["_target_"]).parameters:
        return {}
    own = f"objectives.{name}.{'space.' if 'space' in node else ''}heads."
    taken = f"objectives.{node.get('space')}.heads."
    prefix = own if any(key.startswith(own) for key in weights) else taken
    stored = {key.removeprefix(prefix): tensor.shape for key, tensor in weights.items() if key.startswith(prefix)}
    expected = {
        f"{modality}.{key}": tensor.shape
        for modality, space in shape.spaces.items()
        for key, tensor in space.projection.state_dict().items()
    }
    linear = {f"{modality}.weight": dim for modality, dim in shape.dims.items()}
    fits = all(stored.get(key) == size for key, size in expected.items())
    plain = all(key in linear and size[1:] == (linear[key],) for key, size in stored.items())
    widths = {size[0] for size in stored.values()} if plain else set()
    if not expected or len(widths) != 1 or fits:
        return {}
    return {"pretrained_heads": False, "embed_dim": widths.pop()}


def _started(space: Any, sources: Mapping[str, str]) -> str:
    if not space.pretrained:
        if len(set(sources.values())) < len(sources):
            return "start afresh (pretrained_heads=false)"
        towers = ", ".join(f"the {name} tower is of {source}" for name, source in sources.items())
        return f"start afresh: {towers}, and no two towers are of one model"
    scale = f", logit scale {exp(space.log_scale.item()):.4g}" if hasattr(space, "log_scale") else ""
    bias = f", bias {space.bias.item():.4g}" if hasattr(space, "bias") else ""
    own = (
        "" if getattr(space, "pretrained_scale", True) else " (both of the objective: the pretrained model has no bias)"
    )
    return f"the projections of {sources[space.pretrained[0]]} ({', '.join(space.pretrained)}){scale}{bias}{own}"
