"""All that a model says of a set of rows, as evaluations gather it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mmexp.data.loaders import evaluation_loader
from mmexp.data.loading import Loading
from mmexp.model import Model
from mmexp.tasks.caption_vectors import caption_vectors
from mmexp.tasks.evaluation import Gathered
from mmexp.tasks.retrieval import Captions
from mmexp.tasks.said import first_with, said_of
from mmexp.tasks.views import StepViews
from mmexp.types import Batch, Samples

ROWS = 64


@dataclass
class Judged:
    """A model with its heads, and what it is called."""

    name: str
    model: Model
    heads: Mapping[str, nn.Module]

    def first_with(self, method: str) -> Any:
        """Return the first head that has a method, None where none has."""
        return first_with(self.heads, method)


def batches_of(judged: Judged, samples: Samples) -> Iterable[Batch]:
    """Return all rows of a set in batches, as the model's encoders read them."""
    return evaluation_loader(samples, judged.model.encoders, Loading(ROWS))


@torch.inference_mode()
def gather(judged: Judged, samples: Samples) -> Gathered:
    """Return what a model and its heads say of all rows."""
    judged.model.eval()
    found = Gathered()
    for batch in batches_of(judged, samples):
        views = StepViews(judged.model, batch, 0, 0, lambda tensor: tensor)
        found.add({}, said_of(views, judged.heads), len(batch["index"]))
    found.captions = captions_of(judged, samples)
    return found


def captions_of(judged: Judged, samples: Samples) -> dict[str, Captions]:
    """Return the vectors of each text of the rows that have several."""
    embedding = judged.first_with("embed")
    return caption_vectors(judged.model, embedding.embed, samples) if embedding else {}


def headline(metrics: Mapping[str, float]) -> tuple[str, float] | None:
    """Return the number that tells most of a set: accuracy of classes, else the mean reciprocal rank."""
    name = next((one for one in ("accuracy", "mean_reciprocal_rank") if one in metrics), None)
    return (name, metrics[name]) if name else None
