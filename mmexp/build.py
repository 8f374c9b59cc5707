"""From configuration to objects. The only place that instantiates; each function builds one thing from plain arguments."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

from mmexp.data.loading import Loading, Variation
from mmexp.errors import RequestError
from mmexp.model import Model
from mmexp.needs import check_needs
from mmexp.signatures import signature
from mmexp.tasks.balancing import count_losses
from mmexp.tasks.base import Task
from mmexp.tasks.views import StepViews
from mmexp.teacher import Teacher
from mmexp.types import DataSource, Supervision
from mmexp.weights import Loaded, load_parts, read_weights

Config = Mapping[str, Any]
ASSETS = Path(__file__).parent / "data" / "assets"


def make(node: Config, *args: Any, without: tuple[str, ...] = (), **kwargs: Any) -> Any:
    """Instantiate one node of the configuration; lists and mappings in it reach the target as plain ones.

    Raises the target's own RequestError, which Hydra would wrap in words of its own.
    """
    try:
        return instantiate({k: v for k, v in node.items() if k not in without}, *args, _convert_="all", **kwargs)
    except InstantiationException as error:
        raise (error.__cause__ if isinstance(error.__cause__, RequestError) else error) from None


def factory(node: Config) -> Any:
    """Return the node's target with its keys bound, to be called with what is known later."""
    return make(node, _partial_=True)


def loading(config: Config) -> Loading:
    """Return how rows become batches, from the keys that all choices of `data` share."""
    return Loading(**{f.name: config["data"][f.name] for f in fields(Loading) if f.name in config["data"]})


def data_source(config: Config) -> DataSource:
    """Return the splits. Raises RequestError for paths, columns and rows that are wrong."""
    return make(config["data"], without=tuple(f.name for f in fields(Loading)))


def variation(config: Config) -> Variation:
    """Return how training samples change from epoch to epoch."""
    return Variation(config["seed"], [make(node) for node in config["augmentation"].values()])


def strong(config: Config) -> Variation | None:
    """Return how the strong view of training samples changes, None where no objective asks for one."""
    nodes = config.get("strong")
    return Variation(config["seed"], [make(node) for node in nodes.values()], view="strong ") if nodes else None


def model(config: Config, modalities: list[str]) -> Model:
    """Return encoders of the given modalities and their fusion, with the weights that their own construction gives."""
    towers = {name: node for name, node in config["encoder"].items() if isinstance(node, Mapping)}
    chosen = [name for name in towers if name in modalities]
    if not chosen:
        raise RequestError(
            f"the data holds {', '.join(modalities)} and the encoders are for {', '.join(towers)}: nothing to learn from. "
            "See data.columns."
        )
    encoders = {name: make(towers[name]) for name in chosen}
    return Model(encoders, make(config["fusion"], {name: encoder.dim for name, encoder in encoders.items()}))


def objectives(config: Config, shape: Any) -> dict[str, nn.Module]:
    """Return the objectives by name, with heads of the model's sizes. A wrong request names the objective."""
    built = {}
    for name, node in config["objective"].items():
        try:
            built[name] = make(node, shape, without=("weight",))
        except RequestError as error:
            raise RequestError(f"objective '{name}': {error}") from error
    return built


@dataclass
class Assembled:
    """A model with objectives and adapter, and what weights it started from."""

    model: Model
    objectives: dict[str, nn.Module]
    loaded: Loaded | None


def assemble(
    config: Config, modalities: list[str], supervision: Supervision, teacher_dims: Mapping[str, int]
) -> Assembled:
    """Build model and objectives, load weights, apply the adapter. Fresh weights depend on the seed alone."""
    torch.manual_seed(config["seed"])
    built = model(config, modalities)
    check_needs(config, built, supervision)
    heads = objectives(config, built.shape(len(supervision.classes), teacher_dims, supervision))
    adapter = make(adapter_of(config))
    # Adapters of tasks in sequence are for what the first of these trains, fresh or not.
    of_tasks = adapter_of(config) is not config["adapter"]
    needs_weights = adapter.needs_weights and not of_tasks
    start = starting_weights(config, needs_weights)
    loaded = None
    if start is not None:
        whole = nn.ModuleDict({"model": built, "objectives": nn.ModuleDict(heads)})
        loaded = load_parts(whole, weights_of(start), str(start))
    pretrained = {f"encoders.{name}" for name, e in built.encoders.items() if getattr(e, "pretrained", False)}
    known = pretrained | set(loaded.parts if loaded else ())
    fresh = {name for name in ("fusion", *(f"encoders.{n}" for n in built.encoders)) if name not in known}
    if needs_weights and any(part != "fusion" for part in fresh):
        raise RequestError(_no_base(config, fresh, loaded))
    adapter.apply(built, set() if of_tasks else fresh)
    return Assembled(built, heads, loaded)


def adapter_of(config: Config) -> Config:
    """Return the node of the adapter: that of the method against forgetting, where it has one."""
    return (config.get("continual") or {}).get("adapter") or config["adapter"]


def _no_base(config: Config, fresh: set[str], loaded: Loaded | None) -> str:
    part = next(part for part in sorted(fresh) if part != "fusion")
    why = f" ({loaded.fresh[part]})" if loaded and part in loaded.fresh else ""
    return (
        f"this adapter needs trained weights, and {part} has none{why}. Set init_from=RUN_DIRECTORY, choose pretrained "
        "weights for it, or adapter=full to train from scratch."
    )


def starting_weights(config: Config, needed: bool) -> Path | None:
    """Return where weights come from: `init_from`, or the encoder bundle's own base where the adapter needs some."""
    if config["init_from"]:
        return Path(config["init_from"])
    base = config["encoder"].get("base")
    return ASSETS / "base" / base if needed and base else None


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    """Return a weights file's tensors, or those of a run directory with its adapter merged into the weights."""
    if not path.is_dir():
        return read_weights(path)
    built, heads = restore(path)
    return dict(nn.ModuleDict({"model": built, "objectives": nn.ModuleDict(heads)}).state_dict())


def run_config(directory: Path) -> Config:
    """Return the configuration that a run directory repeats."""
    from omegaconf import OmegaConf

    file = directory / "config.yaml"
    if not file.is_file():
        raise RequestError(f"'{directory}' is not a run directory: it has no config.yaml.")
    return OmegaConf.to_container(OmegaConf.load(file))  # type: ignore[return-value]


def best_checkpoint(directory: Path) -> Path:
    """Return the run's best checkpoint, else its last. Raises RequestError where there is none."""
    found = [directory / "checkpoints" / name for name in ("best.ckpt", "last.ckpt")]
    existing = [path for path in found if path.is_file()]
    if not existing:
        raise RequestError(f"'{directory}' has no checkpoint yet (looked for {found[0].name} and {found[1].name}).")
    return existing[0]


def restore(directory: Path) -> tuple[Model, dict[str, nn.Module]]:
    """Return model and objectives of a run with their weights; what its adapter added is merged."""
    config = run_config(directory)
    weights = read_weights(best_checkpoint(directory))
    modalities = sorted({name.split(".")[2] for name in weights if name.startswith("model.encoders.")})
    built = model(config, modalities)
    adapter = make(adapter_of(config))
    if any(".lora_" in name for name in weights):
        adapter.apply(built, set(_unadapted(weights)))
    teacher_dims = {
        m: len(weights[key]) for m in modalities if (key := f"objectives.distill.heads.{m}.weight") in weights
    }
    heads = objectives(config, built.shape(_classes(config, weights), teacher_dims))
    nn.ModuleDict({"model": built, "objectives": nn.ModuleDict(heads)}).load_state_dict(weights)
    adapter.merge(built)
    return built, heads


def _classes(config: Config, weights: Mapping[str, torch.Tensor]) -> int:
    """Return how many classes the heads of a run tell apart."""
    needs = {name: set(signature(node["_target_"]).needs) for name, node in config["objective"].items()}
    heads = [f"objectives.{name}.head.weight" for name, wanted in needs.items() if wanted & {"labels", "targets"}]
    return max((len(weights[head]) for head in heads if head in weights), default=0)


def _unadapted(weights: Mapping[str, Any]) -> set[str]:
    """Return the parts without low-rank layers: they were trained in full."""
    from mmexp.weights import part_of

    every = {part_of(name) for name in weights if name.startswith("model.")}
    return every - {part_of(name) for name in weights if ".lora_" in name}


def teacher(config: Config) -> Teacher | None:
    """Return the frozen teacher of a distillation, None where the run has none."""
    if not config["teacher"]:
        return None
    built, heads = restore(Path(config["teacher"]))
    embedding = [head for head in heads.values() if hasattr(head, "embed")]
    if not embedding:
        raise RequestError(
            f"teacher={config['teacher']}: that run learned no common space (no objective such as contrastive)."
        )
    return Teacher(built, embedding[0])


def balance(config: Config, assembled: Assembled, samples: Any, teaching: Teacher | None) -> nn.Module:
    """Return how the losses share the model. One with a state for each loss has them counted on a row of `samples`."""
    node = config["balance"]
    accepts = signature(node["_target_"])
    compares = "shared" in accepts.needs or node.get("cosines_every")
    if compares and not any(parameter.requires_grad for parameter in assembled.model.parameters()):
        raise RequestError(
            "balance: this one compares gradients on the shared model, and none of it is trained. Choose balance=fixed."
        )
    if "count" not in accepts.parameters:
        return make(node)
    teach = (lambda batch: teaching(batch["teacher"])) if teaching else None
    # The row twice: for a batch norm in training one is not enough.
    batch = samples.__getitems__([(0, 0)] * 2)
    views = StepViews(assembled.model, batch, config["seed"], 0, lambda tensor: tensor, teach)
    return make(node, count_losses(assembled.objectives, views))


def task(config: Config, assembled: Assembled, sharing: nn.Module, total_steps: int, teaching: Teacher | None) -> Task:
    """Return the LightningModule."""
    more: dict[str, Any] = {"teacher": teaching} if teaching else {}
    if config.get("continual"):
        more["continual"] = make(config["continual"])
    return make(
        config["task"],
        assembled.model,
        assembled.objectives,
        {name: node["weight"] for name, node in config["objective"].items()},
        sharing,
        factory(config["optimizer"]),
        factory(config["schedule"]),
        seed=config["seed"],
        total_steps=total_steps,
        log_every_steps=min(config["log_every_steps"], total_steps),
        **more,
    )
