"""Several labels a row: each class is a question of its own."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.objectives.presence import no_terms
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Encoded


class Multilabel(nn.Module):
    """Binary cross-entropy on `targets (B, C)`, each from 0 to 1: how sure a (weak) label is.

    A target of NaN, or a row of them, is not known and does not count. `source` is `fused` or the name of a modality.
    """

    needs = ("{source}", "targets")
    linear_head = True

    def __init__(self, shape: ModelShape, *, source: str = "fused"):
        super().__init__()
        self.source = source
        self.head = nn.Linear(shape.source_dim(source), shape.num_classes)

    def mark(self, encoded: Encoded) -> Tensor:
        """Return the logit (B, C) of every class."""
        return self.head(encoded.pooled)

    def forward(self, views: Views) -> Terms:
        """Return the mean over all known targets of the rows that have the source."""
        rows = views.having(self.source)
        if rows is None:
            return no_terms(self, views, ["multilabel"])
        views = rows
        logits, targets = self.mark(views.source(self.source)).float(), views.batch["targets"]
        known = ~targets.isnan()
        # Zeros where nothing is known, and no loss there: NaN would reach the gradient even when it is masked afterwards.
        losses = F.binary_cross_entropy_with_logits(logits, torch.where(known, targets, 0.0), reduction="none")
        loss = (losses * known).sum() / known.sum().clamp_min(1)
        return Terms({"multilabel": loss}, counts={"multilabel": known.sum().float()})
