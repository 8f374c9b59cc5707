"""Classification of the fused output, or of one modality alone."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.errors import RequestError, nearest
from mmexp.objectives.presence import no_terms
from mmexp.objectives.shown import shown_at_once
from mmexp.shapes import ModelShape, Supervision
from mmexp.step import Terms, Views
from mmexp.types import Encoded, Fraction, Shown


class Classify(nn.Module):
    """Cross-entropy on `label`; rows without a label (-1) do not count. `source` is `fused` or the name of a modality.

    Rows that lack that modality do not count. Where a picture is mixed, each of its labels counts by its share; the fused
    output answers for all modalities that a row has alike.
    `class_weights` is a mapping from class name to weight (1 for a class that it does not name), or `balanced`. Raises
    RequestError for a class that is not there.
    """

    needs = ("{source}", "labels")
    linear_head = True

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
        self.head = nn.Linear(shape.source_dim(source), shape.num_classes)
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
        rows = views.having(self.source)
        if rows is None:
            return no_terms(self, views, ["classify"], ["accuracy"])
        views = rows
        logits, label = self.classify(views.source(self.source)).float(), views.batch["label"]
        sources = views.encoded() if self.source == "fused" else (self.source,)
        loss, counted = self.loss(logits, shown_at_once(views.batch, sources))
        right = ((logits.argmax(-1) == label) & (label >= 0)).sum()
        accuracy = right / (label >= 0).sum().clamp_min(1)
        return Terms({"classify": loss}, {"accuracy": accuracy}, {"classify": counted})

    def loss(self, logits: Tensor, content: Shown) -> tuple[Tensor, Tensor]:
        """Return the mean cross-entropy of `logits (B, C)` and the sum of the weights, as `label_loss` does."""
        return label_loss(logits, content, self.class_weight, self.label_smoothing)


def label_loss(
    logits: Tensor, content: Shown, class_weight: Tensor | None = None, label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy of labels, weighted as by `torch.nn.CrossEntropyLoss(weight=...)`, and its denominator.

    Args:
        logits: Class logits `(B, C)`.
        content: The labels `(B, K)` of each row, -1 for none, and the share `(B, K)` of each.
        class_weight: The weight of each class `(C,)`.
        label_smoothing: As in `torch.nn.functional.cross_entropy`.

    Returns:
        The loss, 0 where no row has a label, and the sum of the shares times class weights, both scalars.
    """
    class_weight = logits.new_ones(logits.shape[1]) if class_weight is None else class_weight
    label, share = content["label"], content["share"] * (content["label"] >= 0)
    each = logits[..., None].expand(-1, -1, label.shape[1])
    losses = F.cross_entropy(
        each, label, class_weight, ignore_index=-1, reduction="none", label_smoothing=label_smoothing
    )
    # Summed and divided here: the mean of no rows would be NaN.
    counted = (share * class_weight[label.clamp_min(0)]).sum()
    return (losses * share).sum() / counted.clamp_min(torch.finfo(torch.float32).tiny), counted


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
