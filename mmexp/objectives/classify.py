"""Classification of the fused output, or of one modality alone."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.errors import RequestError, nearest
from mmexp.objectives.source import source_dim, source_of
from mmexp.types import Encoded, Fraction, ModelShape, Supervision, Terms, Views


class Classify(nn.Module):
    """Cross-entropy on `label`; rows without a label (-1) do not count. `source` is `fused` or the name of a modality.

    `class_weights` is a mapping from class name to weight (1 for a class that it does not name), or `balanced`. Raises
    RequestError for a class that is not there.
    """

    needs = ("{source}", "labels")

    def __init__(
        self,
        shape: ModelShape,
        *,
        source: str = "fused",
        label_smoothing: Fraction = 0.0,
        class_weights: dict[str, float] | Literal["balanced"] | None = None,
    ):
        super().__init__()
        self.source, self.label_smoothing = source, label_smoothing
        self.head = nn.Linear(source_dim(shape, source), shape.num_classes)
        # Of the data and not of the head, so no checkpoint keeps it: a head restored without data weighs all rows alike.
        weight = torch.ones(shape.num_classes)
        if class_weights and shape.supervision.classes:
            weight = weights_of(class_weights, shape.supervision)
        self.register_buffer("class_weight", weight, persistent=False)

    class_weight: Tensor

    def classify(self, encoded: Encoded) -> Tensor:
        """Return class logits (B, C)."""
        return self.head(encoded.pooled)

    def forward(self, views: Views) -> Terms:
        """Return the cross-entropy, each row by the weight of its class, and the accuracy."""
        logits, label = self.classify(source_of(views, self.source)).float(), views.batch["label"]
        labelled = label >= 0
        # Summed and divided here: the mean of no rows would be NaN.
        counted = self.class_weight[label[labelled]].sum().clamp_min(torch.finfo(torch.float32).tiny)
        loss = F.cross_entropy(
            logits, label, self.class_weight, ignore_index=-1, reduction="sum", label_smoothing=self.label_smoothing
        )
        right = ((logits.argmax(-1) == label) & labelled).sum()
        return Terms({"classify": loss / counted}, {"accuracy": right / labelled.sum().clamp_min(1)})


def weights_of(asked: Mapping[str, float] | str, supervision: Supervision) -> Tensor:
    """Return the weight (C,) of each class. Balanced is n / (classes * count) over the train rows, as in scikit-learn.

    A class that train lacks has weight 1.
    """
    if isinstance(asked, str):
        count = torch.tensor(supervision.counts, dtype=torch.float32)
        return torch.where(count > 0, count.sum() / ((count > 0).sum() * count), 1.0)
    given = {str(name): float(weight) for name, weight in asked.items()}
    for name in given:
        if name not in supervision.classes:
            raise RequestError(f"class_weights: there is no class '{name}'.{nearest(name, supervision.classes)}")
    return torch.tensor([given.get(name, 1.0) for name in supervision.classes])
