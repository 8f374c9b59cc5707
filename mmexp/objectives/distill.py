"""Distillation from a frozen teacher: its embeddings, and its similarities within the batch (CLIP-KD, arXiv:2307.12732)."""

from itertools import permutations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.objectives.heads import Heads
from mmexp.objectives.similarity import similarity
from mmexp.types import Encoded, ModelShape, NonNegativeFloat, PositiveFloat, Terms, Views


class Distill(nn.Module):
    """`embedding` weighs the distance to the teacher's vectors, `logits` the divergence of the batch's similarities."""

    needs = ("pooled", "teacher")

    def __init__(
        self,
        shape: ModelShape,
        *,
        embedding: NonNegativeFloat = 1.0,
        logits: NonNegativeFloat = 1.0,
        temperature: PositiveFloat = 0.05,
    ):
        super().__init__()
        self.heads = Heads(shape.dims, shape.teacher_dims)
        self.embedding, self.logits, self.temperature = embedding, logits, temperature

    def embed(self, encoded: dict[str, Encoded]) -> dict[str, Tensor]:
        """Return unit vectors (B, D) in the teacher's space."""
        return self.heads(encoded)

    def forward(self, views: Views) -> Terms:
        """Return the distance to the teacher, each part by its name."""
        student, teacher = self.embed(views.encoded()), views.teacher()
        losses = {}
        if self.embedding:
            apart = [1 - (student[name] * teacher[name]).sum(-1).mean() for name in student]
            losses["distill_embedding"] = self.embedding * torch.stack(apart).mean()
        if self.logits:
            every = {name: (views.gather(student[name]), views.gather(teacher[name])) for name in student}
            apart = [self._divergence(student[a], teacher[a], *every[b]) for a, b in permutations(sorted(student), 2)]
            losses["distill_logits"] = self.logits * torch.stack(apart).mean()
        return Terms(losses)

    def _divergence(self, student: Tensor, teacher: Tensor, students: Tensor, teachers: Tensor) -> Tensor:
        """Return KL(teacher || student) of each row's similarities to all keys (Hinton et al., arXiv:1503.02531)."""
        own = F.log_softmax(similarity(student, students) / self.temperature, -1)
        target = F.log_softmax(similarity(teacher, teachers) / self.temperature, -1)
        return F.kl_div(own, target, log_target=True, reduction="batchmean")
