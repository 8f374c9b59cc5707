"""Data, encoders, model and objectives, each from its own part of the configuration."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from pydoc import locate
from typing import Any

from torch import nn

from mmexp.build.classes import with_run_classes
from mmexp.build.making import Config, make
from mmexp.data.few_labels import few_shots, fraction_of
from mmexp.data.loading import Loading
from mmexp.data.table import MODALITIES
from mmexp.data.variation import Redrawn, Variation
from mmexp.data.without import measured_without
from mmexp.dropout import hasten
from mmexp.errors import RequestError
from mmexp.model import Model
from mmexp.needs import LACKING, needs_of
from mmexp.shapes import ModelShape
from mmexp.signatures import signature
from mmexp.training.groups import Stepping
from mmexp.types import DataSource

# What a batch holds beside modalities, and what heads look at.
TAKEN = {"index", "concept", "label", "targets", "number", "present", "shown", "strong", "encoded", "taught"}
TAKEN |= {"items", "teacher", "fused"}


def loading(config: Config) -> Loading:
    """Return how rows become batches, from the keys that all choices of `data` share."""
    told = {f.name: config["data"][f.name] for f in fields(Loading) if f.name in config["data"]}
    if told.get("num_workers", 0) is None:
        told["num_workers"] = make(config["hardware"]).idle_cores()
    return Loading(**told)


def stepping(config: Config) -> Stepping:
    """Return how steps are taken, from the keys that all choices of `optimizer` share."""
    return Stepping(**{f.name: config["optimizer"][f.name] for f in fields(Stepping) if f.name in config["optimizer"]})


def data_source(config: Config) -> DataSource:
    """Return the splits. Raises RequestError for paths, columns and rows that are wrong."""
    source, without = _read(config), config["data"].get("without")
    read = [name for name in source.modalities if name in towers(config)]
    return measured_without(source, without, read) if without else source


def _read(config: Config) -> DataSource:
    accepts = signature(config["data"]["_target_"]).parameters
    more: dict[str, Any] = {"wanted": answers_wanted(config), "all_labels": not config["train"]}
    more |= {"kinds": further_kinds(config)} if "kinds" in accepts else {}
    more = {name: value for name, value in more.items() if name in accepts}
    source = make(config["data"], without=tuple(f.name for f in fields(Loading)), **more)
    shots, fraction = config["data"].get("shots"), config["data"].get("fraction")
    source = source if fraction is None else fraction_of(source, fraction, config["seed"])
    return with_run_classes(config, few_shots(source, shots, config["seed"]) if shots else source)


def answers_wanted(config: Config) -> list[str]:
    """Return which of labels, targets and number the configuration needs, by its objectives and keys."""
    asked = {need for node in config["objective"].values() for need in needs_of(node)} & set(LACKING)
    by_class = config.get("prompts") or any(config["data"].get(key) for key in ("shots", "labels_per_class"))
    return sorted(asked | ({"labels"} if by_class else set()))


def towers(config: Config) -> dict[str, Config]:
    """Return the nodes of the encoders by name."""
    return {name: node for name, node in config["encoder"].items() if isinstance(node, Mapping)}


def further(config: Config) -> dict[str, Config]:
    """Return the nodes of encoders that are no kind's first: a second text or picture, under a name of its own."""
    return {name: node for name, node in towers(config).items() if name not in MODALITIES}


def further_kinds(config: Config) -> dict[str, str]:
    """Return by the names of further encoders what kind of modality each is for."""
    return {name: getattr(locate(node["_target_"]), "modality", name) for name, node in further(config).items()}


def variation(config: Config) -> Variation:
    """Return how training samples change from epoch to epoch."""
    return _redrawn(config, config["augmentation"])


def _redrawn(config: Config, nodes: Config, view: str = "") -> Variation:
    redrawn: Redrawn = make(config["variation"])
    return redrawn.variation(config["seed"], [make(node) for node in nodes.values()], view)


def strong(config: Config) -> Variation | None:
    """Return how the strong view of training samples changes, None where no objective asks for one."""
    nodes = config.get("strong")
    return _redrawn(config, nodes, "strong ") if nodes else None


def model(config: Config, modalities: list[str]) -> Model:
    """Return encoders of the given modalities and their fusion, with the weights that their own construction gives."""
    chosen = {name: node for name, node in towers(config).items() if name in modalities}
    if not chosen:
        raise RequestError(
            f"the data holds {', '.join(modalities)} and the encoders are for {', '.join(towers(config))}: nothing to learn "
            "from. See data.columns."
        )
    for name in set(further(config)) - set(chosen):
        raise RequestError(
            f"encoder.{name} has nothing to read: the data holds {', '.join(modalities)}. Set +data.columns.{name}=COLUMN, or "
            "leave it out."
        )
    for name in chosen:
        if name in TAKEN or hasattr(nn.ModuleDict, name):
            raise RequestError(f"encoder.{name}: this name has another meaning. Choose another, such as {name}_column.")
    encoders = {name: _encoder(node) for name, node in chosen.items()}
    for name in set(MODALITIES) & set(encoders):
        if encoders[name].modality != name:
            raise RequestError(
                f"encoder.{name} is an encoder of {encoders[name].modality}. Choose one of encoder/{name}="
            )
    built = Model(encoders, make(config["fusion"], {name: encoder.dim for name, encoder in encoders.items()}))
    hasten(built)
    return built


# Any other path that a tower's `weights` name is a run, there or gone since.
_FILES = (".safetensors", ".pth", ".pt", ".bin", ".npz")


def run_of(node: Config) -> Path | None:
    """Return the run directory or checkpoint that a tower's `weights` name, None where they are the encoder's own to read."""
    weights = node.get("weights")
    if not weights:
        return None
    path = Path(weights)
    foreign = weights.startswith("package:") or (path.suffix in _FILES and not path.with_suffix(".yaml").is_file())
    return None if _reads_weights(node) and foreign and not path.is_dir() else path


def _reads_weights(node: Config) -> bool:
    return "weights" in signature(node["_target_"]).parameters


def _encoder(node: Config) -> nn.Module:
    """Return an encoder with the weights that it can read itself; those of runs come later."""
    node = {key: _inner(key, value) if isinstance(value, Mapping) else value for key, value in node.items()}
    encoder = make(node, without=() if _reads_weights(node) and not run_of(node) else ("weights",))
    if run_of(node) and hasattr(encoder, "source"):
        # Weights of a run are not those of the dual encoder, whose space they do not share.
        encoder.source = f"{encoder.modality} of {run_of(node)}"
    return encoder


def _inner(key: str, node: Config) -> Config:
    """Return the node of what an encoder is made of, such as a video's picture encoder, whose weights no run can give alone."""
    if "_target_" not in node or _reads_weights(node):
        return node
    if node.get("weights"):
        raise RequestError(f"encoder.*.{key}.weights: it takes none of a run. Set weights of the whole encoder.")
    return {name: value for name, value in node.items() if name != "weights"}


def objectives(config: Config, shape: ModelShape) -> dict[str, nn.Module]:
    """Return the objectives by name, with heads of the model's sizes. A wrong request names the objective."""
    built = {}
    for name, node in config["objective"].items():
        try:
            built[name] = make(node, shape, without=("weight",))
        except RequestError as error:
            raise RequestError(f"objective '{name}': {error}") from error
    return built
