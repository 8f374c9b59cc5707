"""What a run is made of beside its model: balance, texts of classes, what is kept of frozen parts, the task."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from torch import nn

from mmexp.adapters.blank import KINDS
from mmexp.build.assembling import Assembled
from mmexp.build.making import Config, factory, make
from mmexp.build.parts import stepping
from mmexp.build.teaching import says, teaches_itself
from mmexp.caching.settings import CacheSettings
from mmexp.data.loading import PreparedSamples
from mmexp.errors import RequestError
from mmexp.frozen import Keeping
from mmexp.frozen_parts import frozen_parts
from mmexp.model import Model
from mmexp.needs import kinds_asked, looked_at
from mmexp.prefix import Prefix, prefix_of
from mmexp.shapes import Supervision
from mmexp.signatures import signature
from mmexp.tasks.balancing import count_losses
from mmexp.tasks.base import Task
from mmexp.tasks.distill import retold
from mmexp.tasks.views import StepViews
from mmexp.teacher import Teacher
from mmexp.training.cost import in_precision
from mmexp.training.groups import Stepping
from mmexp.types import AS_IT_IS, Batch, DataSource, Said

SHARED_BY_OPTIMIZERS = tuple(f.name for f in fields(Stepping))
Samplings = Mapping[str, PreparedSamples]
# Rows on which it is tried that an encoder can be gone on from.
TRIED = 4


def prefixes(config: Config, model: Model, samples: PreparedSamples) -> dict[str, Prefix]:
    """Return, by modality, what of partly frozen encoders lies below their lowest trained block, tried on some of `samples`."""
    dtype = make(config["cache"]).torch_dtype
    rows = torch.linspace(0, len(samples) - 1, min(TRIED, len(samples))).long().tolist()
    found = {
        name: prefix_of(encoder, samples.inputs([(row, AS_IT_IS) for row in rows], [name])[name], dtype)
        for name, encoder in model.encoders.items()
        if encoder.modality in KINDS
    }
    return {name: prefix for name, prefix in found.items() if prefix}


def keeping(
    config: Config, task: Task, taught_by: Teacher | None, sets: Samplings, source: DataSource, how: str
) -> Keeping | None:
    """Return what keeps the outputs of frozen parts for the `sets` of samples, None where nothing is frozen or kept.

    `how` is the precision of the run.
    """
    settings: CacheSettings = make(config["cache"])
    tokens, inputs = looked_at(config)
    parts = frozen_parts(task.model, task.model.prefixes, taught_by, tokens)
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


def task(
    config: Config, assembled: Assembled, sharing: nn.Module, total_steps: int | None, teaching: Teacher | None
) -> Task:
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
        partial(stepping(config).optimizer, factory(config["optimizer"], without=SHARED_BY_OPTIMIZERS)),
        factory(config["schedule"]),
        seed=config["seed"],
        total_steps=total_steps,
        log_every_steps=min(config["log_every_steps"], total_steps or config["log_every_steps"]),
        **more,
    )


def own_teacher(config: Config, assembled: Assembled) -> Teacher | None:
    """Return a copy of the run's own model and heads, which will follow them; None for a task that does not ask it."""
    if not teaches_itself(config):
        return None
    teaching = {name: head for name, head in assembled.objectives.items() if not kinds_asked(config, name)}
    return deepcopy(Teacher(assembled.model, teaching, says(config)))
