"""Distillation of a common space: a teacher's vectors, and its similarities within the batch (CLIP-KD, arXiv:2307.12732)."""

from itertools import permutations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.objectives.contrastive import info_nce
from mmexp.objectives.heads import Heads
from mmexp.objectives.presence import Both, Presence
from mmexp.objectives.shown import gathered, pairwise, related_items, shown
from mmexp.objectives.similarity import similarity
from mmexp.rows import take
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Encoded, NonNegativeFloat, PositiveFloat


class Distill(nn.Module):
    """`embedding` weighs the distance to the teacher's vectors (FD), `logits` the divergence of the similarities (CRD).

    `interactive` (ICL) weighs InfoNCE of the student's vectors against the teacher's of the other modality, right where they
    show one concept or item.
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

    def logit_scale(self) -> Tensor:
        """Return by what cosine similarities are multiplied before a softmax, a scalar."""
        return torch.tensor(1 / self.temperature)

    def forward(self, views: Views) -> Terms:
        """Return the distance to the teacher, each part by its name, over the rows that have the modality or the pair."""
        student, teacher = self.embed(views.encoded()), views.teacher("vectors")
        teachers = {name: views.gather(teacher[name]) for name in student}
        presence, pairs = Presence(views, views.encoded()), list(permutations(sorted(student), 2))
        losses = {}

        def apart(name: str, rows: Both) -> Tensor:
            return 1 - (take(student[name], rows.own) * teacher[name][rows.own]).sum(-1).mean()

        if self.embedding:
            each = [(name,) for name in student]
            losses["distill_embedding"] = self.embedding * presence.mean(self, views, each, apart, student)
        if self.logits:
            students = {name: views.gather(vectors) for name, vectors in student.items()}

            def diverging(a: str, b: str, rows: Both) -> Tensor:
                keys = take(students[b], rows.every), teachers[b][rows.every]
                return self._divergence(take(student[a], rows.own), teacher[a][rows.own], *keys)

            losses["distill_logits"] = self.logits * presence.mean(self, views, pairs, diverging, students)
        if self.interactive:
            content, items = {name: shown(views.batch, name) for name in student}, related_items(views, student)
            keys = {name: gathered(views, part, items) for name, part in content.items()}
            right = {(a, b): pairwise(content[a], keys[b], [m for m in (a, b) if m in items]) for a, b in pairs}

            def interacting(a: str, b: str, rows: Both) -> Tensor:
                positive = right[a, b][rows.own][:, rows.every]
                return info_nce(take(student[a], rows.own), teachers[b][rows.every], 1 / self.temperature, positive)

            losses["distill_interactive"] = self.interactive * presence.mean(self, views, pairs, interacting, student)
        return Terms(losses)

    def _divergence(self, student: Tensor, teacher: Tensor, students: Tensor, teachers: Tensor) -> Tensor:
        """Return KL(teacher || student) of each row's similarities to all keys (Hinton et al., arXiv:1503.02531)."""
        own = F.log_softmax(similarity(student, students) / self.temperature, -1)
        target = F.log_softmax(similarity(teacher, teachers) / self.temperature, -1)
        return F.kl_div(own, target, log_target=True, reduction="batchmean")
