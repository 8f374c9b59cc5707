"""Distillation of relations: how rows lie to each other within a modality is to be as in the teacher.

Distances and angles of RKD (arXiv:1904.05068), similarities of SP (arXiv:1907.09682). Relations have no width, so that the
student needs no head for them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.objectives.presence import Presence, mean_of
from mmexp.objectives.similarity import similarity
from mmexp.rows import take
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import NonNegativeFloat


class DistillRelations(nn.Module):
    """Weights of three losses on the pooled vectors of all processes, each a mean over the modalities.

    The paper of `distance` and `angle` weighs them 1 : 2, that of `similarity` by 3000. An angle is of three rows: its
    memory grows with the third power of the batch.
    """

    needs = ("pooled", "teacher.pooled")

    def __init__(
        self,
        shape: ModelShape,
        *,
        distance: NonNegativeFloat = 1.0,
        angle: NonNegativeFloat = 2.0,
        similarity: NonNegativeFloat = 0.0,
    ):
        super().__init__()
        given = {"distance": (distance, distances_apart), "angle": (angle, angles_apart)}
        given["similarity"] = (similarity, similarities_apart)
        self.parts = {name: part for name, part in given.items() if part[0]}

    def forward(self, views: Views) -> Terms:
        """Return each relation that counts by its name; a modality that fewer than two rows have is left out."""
        teacher, presence = views.teacher("pooled"), Presence(views, views.encoded())
        pairs = []
        for name, e in views.encoded().items():
            rows = presence.both(name).every
            if isinstance(rows, slice) or len(rows) > 1:
                pairs.append((take(views.gather(e.pooled), rows).float(), views.gather(teacher[name])[rows].float()))
        losses = {}
        for name, (weight, apart) in self.parts.items():
            losses[f"distill_{name}"] = weight * mean_of(self, views, [apart(own, theirs) for own, theirs in pairs])
        return Terms(losses)


def distances_apart(own: Tensor, teacher: Tensor) -> Tensor:
    """Return RKD-D: Huber's loss of the distances of every two rows, in units of their mean. `own (N, D)`, `teacher (N, E)`."""
    first, second = torch.triu_indices(len(own), len(own), 1, device=own.device)
    ours, theirs = ((take(vectors, first) - take(vectors, second)).norm(dim=-1) for vectors in (own, teacher))
    return F.smooth_l1_loss(_in_means(ours), _in_means(theirs))


def _in_means(distances: Tensor) -> Tensor:
    return distances / distances.mean().clamp_min(torch.finfo(distances.dtype).tiny)


def angles_apart(own: Tensor, teacher: Tensor) -> Tensor:
    """Return RKD-A: Huber's loss of the cosine of the angle at j between i and k, of every three rows."""
    count = len(own)
    losses = F.smooth_l1_loss(_cosines(own), _cosines(teacher), reduction="none")
    # Of three rows that are not different nothing is known; i = k has cosine 1 in both and is 0 but for rounding.
    distinct = ~torch.eye(count, dtype=torch.bool, device=own.device)
    return (losses * distinct).sum() / max(1, count * (count - 1) * (count - 2))


def _cosines(vectors: Tensor) -> Tensor:
    """Return (N, N, N): the cosine at row j between the directions to i and k; 0 where one of them is j."""
    directions = F.normalize(vectors[None] - vectors[:, None], dim=-1)
    with torch.autocast(vectors.device.type, enabled=False):
        return directions @ directions.transpose(1, 2)


def similarities_apart(own: Tensor, teacher: Tensor) -> Tensor:
    """Return SP: the squared difference of the products of every two rows, each row of products of length 1, over N²."""
    ours, theirs = (F.normalize(similarity(vectors, vectors), dim=-1) for vectors in (own, teacher))
    return F.mse_loss(ours, theirs)
