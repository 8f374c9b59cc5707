"""What is kept of a batch of an evaluation set, and the numbers that all of them become."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmexp.model import Model
from mmexp.tasks.caption_vectors import caption_vectors
from mmexp.tasks.captions import caption_metrics, chosen_rows, write_captions
from mmexp.tasks.evaluation import Gathered
from mmexp.tasks.said import first_with, said_of
from mmexp.tasks.views import StepViews
from mmexp.tasks.zero_shot import zero_shot_metrics
from mmexp.types import Samples


def gathered_rows(views: StepViews, objectives: Mapping[str, Any], samples: Samples, every: bool) -> dict[str, Tensor]:
    """Return what is said of the rows of all processes, and captions written for them: for all where `every`, else some."""
    rows = said_of(views, objectives)
    if writer := first_with(objectives, "generate"):
        most = None if every else writer.validation_rows
        rows |= write_captions(writer, views, chosen_rows(views.batch["index"], len(samples), most))
    # Truth values as numbers on the way: not every backend gathers these.
    return {
        name: views.gather(tensor.long()).bool() if tensor.dtype == torch.bool else views.gather(tensor)
        for name, tensor in rows.items()
    }


def numbers_of(
    gathered: Gathered, model: Model, objectives: Mapping[str, Any], samples: Samples, classes: Tensor | None
) -> dict[str, float]:
    """Return the flat numbers of an evaluation set, without its name in front; with `classes (C, D)` zero-shot ones too."""
    if embedding := first_with(objectives, "embed"):
        gathered.captions = caption_vectors(model, embedding.embed, samples)
    numbers = gathered.metrics()
    if classes is not None:
        label, present = gathered.stacked()["label"], gathered.below("present/")
        numbers |= zero_shot_metrics(gathered.below("vector/"), classes, label, present)
    if first_with(objectives, "generate"):
        numbers |= caption_metrics(gathered.stacked(), model.encoders["text"].decode, samples)
    return numbers
