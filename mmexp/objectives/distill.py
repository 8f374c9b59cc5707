"""Distillation of a common space: a teacher's vectors, and its similarities within the batch (CLIP-KD, arXiv:2307.12732)."""

from itertools import permutations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.objectives.contrastive import info_nce
from mmexp.objectives.heads import Heads
from mmexp.objectives.shown import pairwise, shown
from mmexp.objectives.similarity import similarity
from mmexp.types import Encoded, ModelShape, NonNegativeFloat, PositiveFloat, Terms, Views


class Distill(nn.Module):
    """`embedding` weighs the distance to the teacher's vectors (FD), `logits` the divergence of the similarities (CRD).

    `interactive` (ICL) weighs InfoNCE of the student's vectors against the teacher's of the other modality.
    """

    needs = ("pooled", "teacher.vectors")
    sized_by_teacher = ("vectors", "heads")  # a kind, and where its widths stand among the weights

    def __init__(
        self,
        shape: ModelShape,
        *,
        embedding: NonNegativeFloat = 1.0,
        logits: NonNegativeFloat = 1.0,
        interactive: NonNegativeFloat = 0.0,
        temperature: PositiveFloat = 0.05,
    ):
        super().__init__()
        self.heads = Heads(shape.dims, shape.teacher.of("vectors"))
        self.embedding, self.logits, self.interactive = embedding, logits, interactive
        self.temperature = temperature

    def embed(self, encoded: dict[str, Encoded]) -> dict[str, Tensor]:
        """Return unit vectors (B, D) in the teacher's space."""
        return self.heads(encoded)

    def forward(self, views: Views) -> Terms:
        """Return the distance to the teacher, each part by its name."""
        student, teacher = self.embed(views.encoded()), views.teacher("vectors")
        teachers = {name: views.gather(teacher[name]) for name in student}
        losses = {}
        if self.embedding:
            apart = [1 - (student[name] * teacher[name]).sum(-1).mean() for name in student]
            losses["distill_embedding"] = self.embedding * torch.stack(apart).mean()
        if self.logits:
            students = {name: views.gather(vectors) for name, vectors in student.items()}
            apart = [
                self._divergence(student[a], teacher[a], students[b], teachers[b])
                for a, b in permutations(sorted(student), 2)
            ]
            losses["distill_logits"] = self.logits * torch.stack(apart).mean()
        if self.interactive:
            apart = [
                self._interactive(views, a, b, student[a], teachers[b]) for a, b in permutations(sorted(student), 2)
            ]
            losses["distill_interactive"] = self.interactive * torch.stack(apart).mean()
        return Terms(losses)

    def _divergence(self, student: Tensor, teacher: Tensor, students: Tensor, teachers: Tensor) -> Tensor:
        """Return KL(teacher || student) of each row's similarities to all keys (Hinton et al., arXiv:1503.02531)."""
        own = F.log_softmax(similarity(student, students) / self.temperature, -1)
        target = F.log_softmax(similarity(teacher, teachers) / self.temperature, -1)
        return F.kl_div(own, target, log_target=True, reduction="batchmean")

    def _interactive(self, views: Views, a: str, b: str, student: Tensor, teachers: Tensor) -> Tensor:
        """Return InfoNCE of the student's `a` (B, D) among the teacher's `b` (K, D), right where they show one concept."""
        positive = pairwise(views, shown(views.batch, a), shown(views.batch, b))
        return info_nce(student, teachers, 1 / self.temperature, positive)
