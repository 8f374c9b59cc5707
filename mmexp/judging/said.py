"""All that a model says of a set of rows, as evaluations gather it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mmexp.data.loaders import evaluation_loader
from mmexp.data.loading import Loading
from mmexp.model import Model
from mmexp.tasks.evaluation import Gathered
from mmexp.tasks.views import StepViews, having_source, looks_at
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
        return next((head for head in self.heads.values() if hasattr(head, method)), None)


def batches_of(judged: Judged, samples: Samples) -> Iterable[Batch]:
    """Return all rows of a set in batches, as the model's encoders read them."""
    return evaluation_loader(samples, judged.model.encoders, Loading(ROWS))


@torch.inference_mode()
def gather(judged: Judged, samples: Samples) -> Gathered:
    """Return what a model says of all rows: `pooled/<m>`, `vector/<m>` and `logits`, with what is right beside."""
    judged.model.eval()
    found = Gathered()
    for batch in batches_of(judged, samples):
        add_said(found, judged, StepViews(judged.model, batch, 0, 0, lambda tensor: tensor))
    return found


def add_said(found: Gathered, judged: Judged, views: Any) -> None:
    """Add what a model says of one batch."""
    batch = views.batch
    rows = {name: batch[name] for name in ("index", "concept", "label") if name in batch}
    rows |= {f"pooled/{name}": one.pooled for name, one in views.encoded().items()}
    rows |= {f"present/{name}": there for name, there in batch.get("present", {}).items()}
    if embedding := judged.first_with("embed"):
        rows |= {f"vector/{name}": one for name, one in embedding.embed(views.encoded()).items()}
    if classifier := judged.first_with("classify"):
        logits, known = classifier.classify(looks_at(classifier, views)), having_source(classifier, views)
        rows["logits"] = logits if known is None else logits.masked_fill(~known[:, None], torch.nan)
    found.add({}, rows, len(batch["index"]))


def headline(metrics: Mapping[str, float]) -> tuple[str, float] | None:
    """Return the number that tells most of a set: accuracy of classes, else the mean reciprocal rank."""
    name = next((one for one in ("accuracy", "mean_reciprocal_rank") if one in metrics), None)
    return (name, metrics[name]) if name else None
