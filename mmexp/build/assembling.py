"""Model and objectives with the weights that they start from, and what of them is trained."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from mmexp.build.adapting import adapted, adapter_of, adapters_of, parts_of, put_on, refuse_foreign_layers
from mmexp.build.classes import class_heads, classes_of
from mmexp.build.making import ASSETS, Config, make
from mmexp.build.parts import model, objectives
from mmexp.build.restoring import chosen_layers, weights_of
from mmexp.build.spaces import keep_loaded_spaces, keep_pretrained_spaces, pretrained_heads, with_stored_heads
from mmexp.build.teaching import check_teacher, self_taught_objectives, teaches_itself
from mmexp.build.towers import comes_trained, other_heads, pretrained_parts, trained_towers
from mmexp.combinations import of_towers
from mmexp.compression.pruning import keep_zeros
from mmexp.compression.quantizing import quantize, train_as_if
from mmexp.compression.shapes import fit
from mmexp.errors import RequestError
from mmexp.model import Model
from mmexp.needs import check_needs
from mmexp.shapes import ModelShape, Supervision, TeacherShape
from mmexp.state_dicts import without_prefix
from mmexp.training.compression import Compression
from mmexp.types import Adapter
from mmexp.weights import Loaded, load_parts, with_spaces


@dataclass
class Assembled:
    """A model with objectives and adapter, and what weights it started from.

    `towers` says of each encoder that came with trained weights of its own, or with another run's, whose they are; `heads` of
    objectives on the towers of a dual encoder whether their heads start as its projections.
    """

    model: Model
    objectives: dict[str, nn.Module]
    loaded: Loaded | None
    towers: Mapping[str, str] = field(default_factory=dict)
    heads: Mapping[str, str] = field(default_factory=dict)


def assemble(config: Config, modalities: list[str], supervision: Supervision, taught: TeacherShape) -> Assembled:
    """Build model and objectives, load weights, apply the adapter. Fresh weights depend on the seed alone."""
    torch.manual_seed(config["seed"])
    built = model(config, modalities)
    check_needs(config, built, supervision)
    shape = built.shape(len(supervision.classes), taught, supervision)
    check_teacher(config, shape)
    heads = _objectives(config, built, shape)
    adapters, settings = adapters_of(config, built), make(config["compression"])
    # Adapters of tasks in sequence are for what the first of these trains, fresh or not.
    of_tasks = adapter_of(config) is not config["adapter"]
    trained = {name for name, encoder in built.encoders.items() if comes_trained(config["encoder"][name], encoder)}
    bare = {name: adapter for name, adapter in adapters.items() if name.rpartition(".")[2] not in trained}
    needs_weights = not of_tasks and any(adapter.needs_weights for adapter in bare.values())
    start = starting_weights(config, needs_weights and trained < set(built.encoders))
    loaded, carried = None, set()
    if start is not None:
        found, theirs = weights_of(start)
        stored = with_stored_heads(config, found, shape)
        heads = heads if stored is config else _objectives(stored, built, shape)
        whole = nn.ModuleDict({"model": built, "objectives": nn.ModuleDict(heads)})
        found, prefix = without_prefix(found, whole.state_dict())
        refuse_foreign_layers(found, adapters, str(start))
        # What cannot be folded into weights goes on as it is there.
        carried = adapted(found, adapters)
        unlike = _other_heads(built, theirs) if theirs else {}
        if not config["init_from"]:  # of a base that nobody named
            unlike |= {f"encoders.{name}": "it comes with weights of its own" for name in trained}
        unlike |= _other_classes(config, start, supervision)
        if settings.shapes == "loaded":
            fit(whole, found)
        put_on(built, adapters, carried)
        spaces = {name: config["objective"][name]["space"] for name, head in heads.items() if hasattr(head, "space")}
        weights = with_spaces(whole.state_dict(), found, spaces)
        loaded = load_parts(whole, weights, str(start), unlike)
        loaded.prefix = prefix
        if config["init_from"]:
            _refuse_random_encoders(loaded, {f"encoders.{name}" for name in trained})
        keep_loaded_spaces(heads, spaces, loaded, set(weights))
    else:
        keep_pretrained_spaces(heads)
    # After those of the whole model, since what is said of one tower is meant for it.
    towers = trained_towers(config, built, loaded.parts if loaded else ())
    known = {f"encoders.{name}" for name in towers} | set(loaded.parts if loaded else ())
    fresh = set() if of_tasks else set(adapters) - known
    if lacking := _bare(config, adapters, fresh, carried):
        raise RequestError(_no_base(config, lacking, loaded))
    built.pretrained = pretrained_parts(built, adapters)
    put_on(built, adapters, set(adapters) - fresh - carried)
    if not config["train"] and not known:
        raise RequestError("train=false measures what was loaded, and nothing was. Set init_from=RUN_DIRECTORY.")
    if config["train"] and not any(p.requires_grad for part in (built, *heads.values()) for p in part.parameters()):
        raise RequestError(
            "nothing is left to train: all is frozen. Choose adapter=lora or adapter=full, or train=false."
        )
    _compress(built, settings, config)
    return Assembled(built, heads, loaded, towers, pretrained_heads(built, heads, loaded.parts if loaded else ()))


def _objectives(config: Config, built: Model, shape: ModelShape) -> dict[str, nn.Module]:
    return self_taught_objectives(config, built, shape) if teaches_itself(config) else objectives(config, shape)


def _compress(built: Model, settings: Compression, config: Config) -> None:
    """Have layers compute, or be trained, as the run's compression says. Raises RequestError where they cannot."""
    trains = config["train"]
    if settings.quantize and trains:
        raise RequestError(
            f"compression.quantize={settings.quantize}: small integers are not trained. Set compression.aware=true, and quantize "
            "what comes out."
        )
    if settings.quantize and make(config["hardware"]).chosen_precision() != "32-true":
        raise RequestError(
            f"compression.quantize={settings.quantize}: what is beside small integers is fp32. Set hardware.precision=32-true."
        )
    if settings.quantize:
        # Nothing is measured that was not loaded.
        quantize(built, settings.quantize, chosen_layers(Path(config["init_from"]), settings.quantize))
    if trains and settings.zeros == "kept":
        keep_zeros(built)
    if trains and settings.aware:
        train_as_if(built)


def _other_classes(config: Config, start: Path, supervision: Supervision) -> dict[str, str]:
    """Return why class heads of a run do not fit, whatever their shapes: they tell other classes apart."""
    there = classes_of(start)
    if there is None or there == list(supervision.classes):
        return {}
    return {f"objectives.{name}": "its classes are others than those of the data" for name in class_heads(config)}


def _other_heads(built: Model, theirs: Model) -> dict[str, str]:
    """Return why parts of another model do not fit this one's, whose weights are of the same shapes."""
    there = parts_of(theirs)
    both = {name: other_heads(part, there[name]) for name, part in parts_of(built).items() if name in there}
    return {name: why for name, why in both.items() if why}


def _refuse_random_encoders(loaded: Loaded, trained: Collection[str]) -> None:
    """Raise RequestError for an encoder that the named weights hold and that they do not fit: it would start at random."""
    for part, why in loaded.fresh.items():
        if part.startswith("encoders.") and part in loaded.left and part not in trained:
            others = [other.partition(".")[2] for other in loaded.parts if other.startswith("encoders.")]
            alone = " ".join(f"encoder.{other}.weights={loaded.source}" for other in others)
            raise RequestError(
                f"init_from={loaded.source}: {part} is there and does not fit: {why}. Choose the encoder of that run, or take "
                f"the others alone: {alone}."
            )


def _bare(
    config: Config, adapters: Mapping[str, Adapter], fresh: Collection[str], carried: Collection[str]
) -> str | None:
    """Return a part that has nothing to adapt. A fusion without weights is trained in full, where nothing else was said of it."""
    chosen = of_towers(config["adapter"])
    for part in sorted(fresh):
        adapter = adapters[part]
        asked = part != "fusion" or "fusion" in chosen or getattr(adapter, "linear", False) or part in carried
        if asked and adapter.needs_weights:
            return part
    return None


def _no_base(config: Config, part: str, loaded: Loaded | None) -> str:
    why = f" ({loaded.fresh[part]})" if loaded and part in loaded.fresh else ""
    tower = part.rpartition(".")[2]
    key = f"adapter/{tower}" if tower in of_towers(config["adapter"]) else "adapter"
    return (
        f"this adapter needs trained weights, and {part} has none{why}. Set init_from=RUN_DIRECTORY, choose pretrained "
        f"weights for it, or {key}=full to train from scratch."
    )


def starting_weights(config: Config, needed: bool) -> Path | None:
    """Return where weights come from: `init_from`, or the encoder bundle's own base where the adapter needs some."""
    if config["init_from"]:
        return Path(config["init_from"])
    base = config["encoder"].get("base")
    return ASSETS / "base" / base if needed and base else None
