"""Regression of a number, from the fused output or from one modality alone."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.objectives.presence import no_terms
from mmexp.rows import take
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Encoded

LOSSES = {"squared": F.mse_loss, "smooth_l1": F.smooth_l1_loss, "absolute": F.l1_loss}


class Regress(nn.Module):
    """The distance to `number (B,)`, measured in deviations of the train split; rows without a number (NaN), or without
    the source, do not count.

    `loss` is the squared error, the absolute one, or the smooth L1 (arXiv:1504.08083), which is squared below one deviation.
    """

    needs = ("{source}", "number")
    linear_head = True

    def __init__(
        self, shape: ModelShape, *, source: str = "fused", loss: Literal["squared", "smooth_l1", "absolute"] = "squared"
    ):
        super().__init__()
        self.source, self.distance = source, LOSSES[loss]
        self.head = nn.Linear(shape.source_dim(source), 1)
        # Weights, not settings: a restored head tells numbers in the units that it was trained on.
        self.register_buffer("mean", torch.tensor(shape.supervision.mean))
        self.register_buffer("deviation", torch.tensor(shape.supervision.deviation))

    mean: Tensor
    deviation: Tensor

    def _standardised(self, encoded: Encoded) -> Tensor:
        return self.head(encoded.pooled).squeeze(-1).float()

    def estimate(self, encoded: Encoded) -> Tensor:
        """Return numbers (B,) in the units of the data."""
        return self._standardised(encoded) * self.deviation + self.mean

    def forward(self, views: Views) -> Terms:
        """Return the loss in deviations, and the mean absolute error in the units of the data."""
        rows = views.having(self.source)
        if rows is None:
            return no_terms(self, views, ["regress"], ["mean_absolute_error"])
        views = rows
        number = views.batch["number"]
        known = ~number.isnan()
        target = (number[known] - self.mean) / self.deviation
        given = take(self._standardised(views.source(self.source)), known)
        # Summed and divided here: the mean of no rows would be NaN.
        counted = known.sum().clamp_min(1)
        error = (given.detach() - target).abs().sum() * self.deviation / counted
        loss = self.distance(given, target, reduction="sum") / counted
        return Terms({"regress": loss}, {"mean_absolute_error": error}, {"regress": known.sum().float()})
