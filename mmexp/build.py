"""From configuration to objects. The only place that instantiates; each function builds one thing from plain arguments."""

from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

from mmexp.caching.settings import CacheSettings
from mmexp.data.few_labels import few_shots
from mmexp.data.loading import Loading, PreparedSamples
from mmexp.data.variation import Redrawn, Variation
from mmexp.errors import RequestError, nearest
from mmexp.frozen import Keeping, frozen_parts
from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.needs import check_needs, kinds_asked, looked_at
from mmexp.runs.parents import checkpoints
from mmexp.signatures import signature
from mmexp.tasks.balancing import count_losses
from mmexp.tasks.base import Task
from mmexp.tasks.distill import retold
from mmexp.tasks.views import StepViews
from mmexp.teacher import Teacher
from mmexp.training.cost import in_precision
from mmexp.types import Batch, DataSource, ModelShape, Said, Supervision, TeacherShape
from mmexp.weights import Loaded, load_parts, read_weights, with_spaces

Config = Mapping[str, Any]
Samplings = Mapping[str, PreparedSamples]
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
    source = make(config["data"], without=tuple(f.name for f in fields(Loading)))
    shots = config["data"].get("shots")
    return few_shots(source, shots, config["seed"]) if shots else source


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
    towers = {name: node for name, node in config["encoder"].items() if isinstance(node, Mapping)}
    chosen = [name for name in towers if name in modalities]
    if not chosen:
        raise RequestError(
            f"the data holds {', '.join(modalities)} and the encoders are for {', '.join(towers)}: nothing to learn from. "
            "See data.columns."
        )
    encoders = {name: make(towers[name]) for name in chosen}
    return Model(encoders, make(config["fusion"], {name: encoder.dim for name, encoder in encoders.items()}))


def objectives(config: Config, shape: ModelShape) -> dict[str, nn.Module]:
    """Return the objectives by name, with heads of the model's sizes. A wrong request names the objective."""
    built = {}
    for name, node in config["objective"].items():
        try:
            built[name] = make(node, shape, without=("weight",))
        except RequestError as error:
            raise RequestError(f"objective '{name}': {error}") from error
    return built


def self_taught_objectives(config: Config, built: Model, shape: ModelShape) -> dict[str, nn.Module]:
    """Return the objectives of a run that teaches itself: those that hear no teacher first, for what they say has sizes."""
    teaching = [name for name in config["objective"] if not kinds_asked(config, name)]
    first = objectives({"objective": {name: config["objective"][name] for name in teaching}}, shape)
    shape = replace(shape, teacher=shape_of(Teacher(built, first, says(config)), "task=self_distill: this run"))
    rest = {name: node for name, node in config["objective"].items() if name not in first}
    heads = first | objectives({"objective": rest}, shape)
    return {name: heads[name] for name in config["objective"]}


@dataclass
class Assembled:
    """A model with objectives and adapter, and what weights it started from."""

    model: Model
    objectives: dict[str, nn.Module]
    loaded: Loaded | None


def assemble(config: Config, modalities: list[str], supervision: Supervision, taught: TeacherShape) -> Assembled:
    """Build model and objectives, load weights, apply the adapter. Fresh weights depend on the seed alone."""
    torch.manual_seed(config["seed"])
    built = model(config, modalities)
    check_needs(config, built, supervision)
    shape = built.shape(len(supervision.classes), taught, supervision)
    check_teacher(config, shape)
    heads = self_taught_objectives(config, built, shape) if teaches_itself(config) else objectives(config, shape)
    adapter = make(adapter_of(config))
    # Adapters of tasks in sequence are for what the first of these trains, fresh or not.
    of_tasks = adapter_of(config) is not config["adapter"]
    needs_weights = adapter.needs_weights and not of_tasks
    start = starting_weights(config, needs_weights)
    loaded = None
    if start is not None:
        whole = nn.ModuleDict({"model": built, "objectives": nn.ModuleDict(heads)})
        spaces = {name: config["objective"][name]["space"] for name, head in heads.items() if hasattr(head, "space")}
        weights = with_spaces(whole.state_dict(), weights_of(start), spaces)
        loaded = load_parts(whole, weights, str(start))
        _keep_spaces(heads, spaces, loaded, set(weights))
    pretrained = {f"encoders.{name}" for name, e in built.encoders.items() if getattr(e, "pretrained", False)}
    known = pretrained | set(loaded.parts if loaded else ())
    fresh = {name for name in ("fusion", *(f"encoders.{n}" for n in built.encoders)) if name not in known}
    if needs_weights and any(part != "fusion" for part in fresh):
        raise RequestError(_no_base(config, fresh, loaded))
    adapter.apply(built, set() if of_tasks else fresh)
    if not config["train"] and not known:
        raise RequestError("train=false measures what was loaded, and nothing was. Set init_from=RUN_DIRECTORY.")
    if config["train"] and not any(p.requires_grad for part in (built, *heads.values()) for p in part.parameters()):
        raise RequestError(
            "nothing is left to train: all is frozen. Choose adapter=lora or adapter=full, or train=false."
        )
    return Assembled(built, heads, loaded)


def _keep_spaces(
    heads: Mapping[str, nn.Module], spaces: Mapping[str, str], loaded: Loaded, weights: Collection[str]
) -> None:
    """Freeze the common spaces that objectives took over. Raises RequestError where the weights have no such space."""
    for name, source in spaces.items():
        head: Any = heads[name]
        part = f"objectives.{name}.space"
        if part in loaded.parts:
            head.space.requires_grad_(head.train_space)
            continue
        known = {key.split(".")[1] for key in weights if key.startswith("objectives.") and key.endswith(".log_scale")}
        raise RequestError(
            f"objective.{name}.space={source}: the loaded weights have no such common space ({loaded.fresh[part]})."
            f"{nearest(source, known)}"
        )


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


def config_beside(file: Path) -> Config:
    """Return the configuration of a weights file: FILE.yaml beside it, or that of the run whose checkpoint it is."""
    from omegaconf import OmegaConf

    beside = file.with_suffix(".yaml")
    found = next((path for path in (beside, file.parent.parent / "config.yaml") if path.is_file()), None)
    if found is None:
        raise RequestError(
            f"'{file}' does not say what model it is of: there is no {beside.name} beside it. Name a run directory, or put "
            "the run's config.yaml there under that name."
        )
    return OmegaConf.to_container(OmegaConf.load(found))  # type: ignore[return-value]


def best_checkpoint(directory: Path) -> Path:
    """Return the run's best checkpoint, else its last. Raises RequestError where there is none."""
    found = checkpoints(directory)
    existing = [path for path in found if path.is_file()]
    if not existing:
        raise RequestError(f"'{directory}' has no checkpoint yet (looked for {found[0].name} and {found[1].name}).")
    return existing[0]


def restore(path: Path) -> tuple[Model, dict[str, nn.Module]]:
    """Return model and objectives of a run, or of a weights file, with their weights; what an adapter added is merged."""
    if path.is_dir():
        config, weights = run_config(path), read_weights(best_checkpoint(path))
    else:
        weights, config = read_weights(path), config_beside(path)
    modalities = sorted({name.split(".")[2] for name in weights if name.startswith("model.encoders.")})
    built = model(config, modalities)
    adapter = make(adapter_of(config))
    if any(".lora_" in name for name in weights):
        adapter.apply(built, set(_unadapted(weights)))
    heads = objectives(config, built.shape(_classes(config, weights), _taught_widths(config, weights)))
    nn.ModuleDict({"model": built, "objectives": nn.ModuleDict(heads)}).load_state_dict(weights)
    adapter.merge(built)
    return built, heads


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


def _unadapted(weights: Mapping[str, Any]) -> set[str]:
    """Return the parts without low-rank layers: they were trained in full."""
    from mmexp.weights import part_of

    every = {part_of(name) for name in weights if name.startswith("model.")}
    return every - {part_of(name) for name in weights if ".lora_" in name}


def says(config: Config) -> list[str]:
    """Return the kinds of what a teacher says that the objectives learn from."""
    return sorted({kind for name in config["objective"] for kind in kinds_asked(config, name)})


def teaches_itself(config: Config) -> bool:
    """Say whether the run's own average is its teacher."""
    return bool(signature(config["task"]["_target_"]).constants.get("teaches_itself", False))


def teacher(config: Config, modalities: Collection[str]) -> Teacher | None:
    """Return the frozen teacher of a distillation, for `modalities`; None where no objective asks one."""
    asked, named = says(config), config["teacher"]
    if not named or not asked:
        return None
    built, heads = _teaching(str(named), modalities)
    kept = {name: encoder for name, encoder in built.encoders.items() if name in modalities}
    return Teacher(Model(kept, built.fusion), heads, asked)


def _teaching(named: str, modalities: Collection[str]) -> tuple[Model, Mapping[str, nn.Module]]:
    """Return model and heads of what `teacher=` names."""
    if named.startswith("open_clip:"):
        from mmexp.encoders.open_clip_space import open_clip_model

        encoders, space = open_clip_model(named.removeprefix("open_clip:"), modalities)
        return Model(encoders, NoFusion({})), {"open_clip": space}
    return restore(ASSETS / "base" / "vit.safetensors" if named == "bundled" else Path(named))


def own_teacher(config: Config, assembled: Assembled) -> Teacher | None:
    """Return a copy of the run's own model and heads, which will follow them; None for a task that does not ask it."""
    if not teaches_itself(config):
        return None
    teaching = {name: head for name, head in assembled.objectives.items() if not kinds_asked(config, name)}
    return deepcopy(Teacher(assembled.model, teaching, says(config)))


def shape_of(teaching: Teacher, named: str) -> TeacherShape:
    """Return the sizes of what a teacher says. Raises RequestError where it cannot say it."""
    if lack := teaching.lacks():
        raise RequestError(f"{named} {lack}.")
    return teaching.shape()


def check_teacher(config: Config, shape: ModelShape) -> None:
    """Raise RequestError where the teacher does not know a modality, or tells other classes apart."""
    if teaches_itself(config):
        return
    for kind in {"vectors", "pooled"} & set(says(config)):
        if missing := sorted(set(shape.dims) - set(shape.teacher.of(kind))):
            raise RequestError(f"teacher={config['teacher']} has no encoder for {missing[0]}, which the student has.")
    classes = shape.teacher.widths.get("logits", shape.num_classes)
    if classes != shape.num_classes:
        raise RequestError(
            f"teacher={config['teacher']} tells {classes} classes apart, and the data has {shape.num_classes}."
        )


def keeping(
    config: Config, task: Task, taught_by: Teacher | None, sets: Samplings, source: DataSource, how: str
) -> Keeping | None:
    """Return what keeps the outputs of frozen parts for the `sets` of samples, None where nothing is frozen or kept.

    `how` is the precision of the run.
    """
    settings: CacheSettings = make(config["cache"])
    tokens, inputs = looked_at(config)
    parts = frozen_parts(task.model, taught_by, tokens)
    # What tasks in sequence freeze, they free again.
    if not (settings.enabled and parts) or config.get("continual"):
        return None
    return Keeping(
        settings=settings,
        parts=parts,
        sets=sets,
        source=source,
        precision=partial(in_precision, task, how),
        precision_name=how,
        augmentations=repr(config["augmentation"]),
        batch_size=config["data"]["batch_size"],
        inputs=inputs,
    )


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

    def heard(batch: Batch) -> Said:
        assert teaching
        return retold(teaching(batch.get("teacher", batch)), teaching, assembled.model)

    # The row twice: for a batch norm in training one is not enough.
    batch = samples.__getitems__([(0, 0)] * 2)
    views = StepViews(assembled.model, batch, config["seed"], 0, lambda tensor: tensor, heard)
    return make(node, count_losses(assembled.objectives, views))


def class_texts(config: Config, assembled: Assembled, supervision: Supervision) -> list[list[str]]:
    """Return some texts of each class, by which evaluations classify zero-shot; none where the run asks for none."""
    if not config["prompts"]:
        return []
    if "labels" not in supervision.kinds:
        raise RequestError("prompts: the data has no classes to be told by words. Set data.columns.label=COLUMN.")
    if "text" not in assembled.model.encoders or len(assembled.model.encoders) < 2:
        raise RequestError("prompts: classes are found by words, which needs texts beside pictures or sounds.")
    if not any(hasattr(head, "embed") for head in assembled.objectives.values()):
        raise RequestError("prompts: no objective has a common space. Add one such as objective=contrastive.")
    return make(config["prompts"]).texts(supervision.classes)


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
