"""Distillation of features: each encoder's pooled vector, projected, is to be the teacher's (FitNets, arXiv:1412.6550)."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.objectives.presence import Both, Presence
from mmexp.rows import take
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import PositiveInt


class DistillFeatures(nn.Module):
    """A projector for each modality, linear or with one layer of `hidden` units; it is no part of the student.

    `distance` is `cosine`: 1 - cosine; or `squared`: the mean squared difference to the teacher's vector, which is brought
    to mean 0 and variance 1 (as in arXiv:2205.14141), so that no teacher's scale decides how much this loss weighs.
    """

    needs = ("pooled", "teacher.pooled")
    sized_by_teacher = ("pooled", "projectors")

    def __init__(
        self,
        shape: ModelShape,
        *,
        hidden: PositiveInt | None = None,
        distance: Literal["cosine", "squared"] = "cosine",
    ):
        super().__init__()
        widths = shape.teacher.of("pooled")
        self.projectors = nn.ModuleDict(
            {name: projector(dim, hidden, widths[name]) for name, dim in shape.dims.items()}
        )
        self.distance = {"cosine": cosine_distance, "squared": squared_distance}[distance]

    def forward(self, views: Views) -> Terms:
        """Return the distance over the rows that have a modality, a mean over the modalities."""
        encoded, teacher = views.encoded(), views.teacher("pooled")
        pooled = {name: e.pooled for name, e in encoded.items()}

        def apart(name: str, rows: Both) -> Tensor:
            return self.distance(
                self.projectors[name](take(pooled[name], rows.own)).float(), teacher[name][rows.own].float()
            )

        each = [(name,) for name in encoded]
        return Terms({"distill_features": Presence(views, encoded).mean(self, views, each, apart, pooled)})


def projector(dim: int, hidden: int | None, width: int) -> nn.Module:
    """Return a map from `dim` to `width`: linear, or through `hidden` units."""
    if hidden is None:
        return nn.Sequential(nn.Linear(dim, width))
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, width))


def cosine_distance(own: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over rows of 1 - cosine, `(B, D)` both."""
    return 1 - F.cosine_similarity(own, teacher, dim=-1).mean()


def squared_distance(own: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference to the standardised `teacher (B, D)`."""
    return F.mse_loss(own, F.layer_norm(teacher, teacher.shape[-1:]))
