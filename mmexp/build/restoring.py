"""Models and heads of finished runs and of weights files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from torch import nn

from mmexp.build.adapting import adapted, adapters_of, parts_of, put_on
from mmexp.build.making import Config
from mmexp.build.parts import model, objectives
from mmexp.build.spaces import with_stored_heads
from mmexp.compression.quantizing import CHOSEN, quantize
from mmexp.compression.shapes import fit
from mmexp.errors import RequestError
from mmexp.model import Model
from mmexp.runs.parents import checkpoints
from mmexp.shapes import TeacherShape
from mmexp.signatures import signature
from mmexp.state_dicts import load
from mmexp.trust import check_targets
from mmexp.weights import read_quantization, read_weights


def run_config(directory: Path) -> Config:
    """Return the configuration that a run directory repeats."""
    file = directory / "config.yaml"
    if not file.is_file():
        raise RequestError(f"'{directory}' is not a run directory: it has no config.yaml.")
    return _read(file)


def _read(file: Path) -> Config:
    """Return a configuration that may be a stranger's. Raises RequestError where it names what may not be run."""
    from omegaconf import OmegaConf
    from yaml import YAMLError

    try:
        config: Any = OmegaConf.to_container(OmegaConf.load(file))
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"'{file}' cannot be read as YAML: {str(error).splitlines()[0]}.") from error
    check_targets(config, str(file))
    return config


def config_beside(file: Path) -> Config:
    """Return the configuration of a weights file: FILE.yaml beside it, or that of the run whose checkpoint it is."""
    beside = file.with_suffix(".yaml")
    found = next((path for path in (beside, file.parent.parent / "config.yaml") if path.is_file()), None)
    if found is None:
        raise RequestError(
            f"'{file}' does not say what model it is of: there is no {beside.name} beside it. Name a run directory, or put "
            "the run's config.yaml there under that name."
        )
    return _read(found)


def best_checkpoint(directory: Path) -> Path:
    """Return the run's best checkpoint, else its last. Raises RequestError where there is none."""
    found = checkpoints(directory)
    existing = [path for path in found if path.is_file()]
    if not existing:
        raise RequestError(f"'{directory}' has no checkpoint yet (looked for {found[0].name} and {found[1].name}).")
    return existing[0]


def restore(path: Path, merged: bool = True, computing: bool = True) -> tuple[Model, dict[str, nn.Module]]:
    """Return model and objectives of a run, or of a weights file; what an adapter added is `merged` if it can be.

    `computing` as it does when it is used: with small integers, if the run is quantized.
    """
    if path.is_dir():
        config, weights = run_config(path), read_weights(best_checkpoint(path))
    else:
        weights, config = read_weights(path), config_beside(path)
    built = model(config, _modalities(weights))
    # Heads first, as in `assemble`: of prompts texts become shorter.
    shape = built.shape(_classes(config, weights), _taught_widths(config, weights))
    heads = objectives(with_stored_heads(config, weights, shape), shape)
    whole = nn.ModuleDict({"model": built, "objectives": nn.ModuleDict(heads)})
    if _shapes(config) == "loaded":
        fit(whole, weights)
    adapters = adapters_of(config, built)
    put_on(built, adapters, adapted(weights, adapters))
    load(whole, weights, f"'{path}'").require_equal(f"'{path}'")
    for name, part in parts_of(built).items() if merged else ():
        adapters[name].merge(part)
    if how := (config.get("compression") or {}).get("quantize") if computing else None:
        quantize(built, how, chosen_layers(path, how))
    return built, heads


def chosen_layers(path: Path, how: str) -> dict[str, torch.Tensor]:
    """Return the layers of a run, or of a weights file, that were chosen to compute with int8, and their ranges.

    Raises RequestError for one of which none were.
    """
    if how not in CHOSEN:
        return {}
    chosen = read_quantization(best_checkpoint(path) if path.is_dir() else path)
    if not chosen:
        raise RequestError(f"compression.quantize={how}: '{path}' is not of `mmexp compress RUN quantize={how}`.")
    return chosen


def _shapes(config: Config) -> str:
    return (config.get("compression") or {}).get("shapes", "own")


def _classes(config: Config, weights: Mapping[str, torch.Tensor]) -> int:
    """Return how many classes the heads of a run tell apart."""
    needs = {name: set(signature(node["_target_"]).needs) for name, node in config["objective"].items()}
    several = [name for name, wanted in needs.items() if wanted & {"labels", "targets"}]
    heads = [f"objectives.{name}.{key}" for name in several for key in ("head.weight", "context")]
    return max((len(weights[head]) for head in heads if head in weights), default=0)


def _taught_widths(config: Config, weights: Mapping[str, torch.Tensor]) -> TeacherShape:
    """Return the widths of what a run's teacher said, as far as heads have them: that of the last weight of each."""
    widths = {}
    for name, node in config["objective"].items():
        kind, heads = signature(node["_target_"]).constants.get("sized_by_teacher", ("", ""))
        start = f"objectives.{name}.{heads}."
        for key in (key for key in weights if heads and key.startswith(start) and key.endswith(".weight")):
            widths[f"{kind}/{key.removeprefix(start).partition('.')[0]}"] = len(weights[key])
    return TeacherShape(widths)


def weights_of(path: Path) -> tuple[dict[str, torch.Tensor], Model | None]:
    """Return a weights file's tensors, or those of a run directory with its adapter merged into the weights, if it can be.

    With them comes the model that they are of, of a file only as its configuration says, and None where it says nothing.
    """
    if path.is_dir():
        built, heads = restore(path, computing=False)
        return dict(nn.ModuleDict({"model": built, "objectives": nn.ModuleDict(heads)}).state_dict()), built
    weights = read_weights(path)
    return weights, _described(path, weights)


def _described(file: Path, weights: Mapping[str, torch.Tensor]) -> Model | None:
    """Return the model that a weights file is of, its own weights not loaded; None where that is not to be had."""
    try:
        # The random numbers to come stay as they are.
        with torch.random.fork_rng(devices=[]):
            return model(config_beside(file), _modalities(weights))
    except (RequestError, InstantiationException):
        return None


def _modalities(weights: Mapping[str, torch.Tensor]) -> list[str]:
    return sorted({name.split(".")[2] for name in weights if name.startswith("model.encoders.")})
