"""Who teaches a run, and what is asked of it."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from torch import nn

from mmexp.build.classes import classes_of
from mmexp.build.making import ASSETS, Config
from mmexp.build.parts import objectives
from mmexp.build.restoring import restore
from mmexp.errors import RequestError
from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.needs import kinds_asked
from mmexp.shapes import ModelShape, TeacherShape
from mmexp.signatures import signature
from mmexp.teacher import Teacher


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
    built, heads = foreign(str(named), modalities)
    return Teacher(built.of(modalities), heads, asked)


def foreign(named: str, modalities: Collection[str]) -> tuple[Model, Mapping[str, nn.Module]]:
    """Return model and heads of a run, a weights file, or what another library has: `open_clip:...`, `hf:FOLDER`."""
    if named.startswith("open_clip:"):
        from mmexp.encoders.open_clip_space import open_clip_model

        encoders, space = open_clip_model(named.removeprefix("open_clip:"), modalities)
        return Model(encoders, NoFusion({})), {"open_clip": space}
    if named.startswith("hf:"):
        from mmexp.encoders.huggingface_space import huggingface_model

        towers, common = huggingface_model(named.removeprefix("hf:"), modalities)
        return Model(towers, NoFusion({})), {"huggingface": common}
    return restore(ASSETS / "base" / "vit.safetensors" if named == "bundled" else Path(named))


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
    theirs = classes_of(Path(str(config["teacher"]))) if config["teacher"] and "logits" in says(config) else None
    if theirs and shape.supervision.classes and theirs != list(shape.supervision.classes):
        place, name = next(
            (place, name) for place, name in enumerate(theirs) if name != shape.supervision.classes[place]
        )
        raise RequestError(
            f"teacher={config['teacher']} tells other classes apart: its class {place} is '{name}', and that of the data is "
            f"'{shape.supervision.classes[place]}'. Distil on data with the teacher's classes, or rename the labels."
        )


def self_taught_objectives(config: Config, built: Model, shape: ModelShape) -> dict[str, nn.Module]:
    """Return the objectives of a run that teaches itself: those that hear no teacher first, for what they say has sizes."""
    teaching = [name for name in config["objective"] if not kinds_asked(config, name)]
    first = objectives({"objective": {name: config["objective"][name] for name in teaching}}, shape)
    shape = replace(shape, teacher=shape_of(Teacher(built, first, says(config)), "task=self_distill: this run"))
    rest = {name: node for name, node in config["objective"].items() if name not in first}
    heads = first | objectives({"objective": rest}, shape)
    return {name: heads[name] for name in config["objective"]}
