"""Distillation of a classifier: the teacher's softened classes beside the labels (Hinton et al., arXiv:1503.02531)."""

from torch import Tensor
from torch.nn import functional as F

from mmexp.objectives.classify import Classify
from mmexp.objectives.presence import count, no_terms
from mmexp.objectives.shown import shown_at_once
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Fraction, PositiveFloat


class DistillClasses(Classify):
    """`hard` * cross-entropy on the label + (1 - `hard`) * T² * KL(teacher || student), both softened by `temperature` T.

    The labels count as in `Classify`; the teacher tells of every row, with or without one, that
    has what it looks at.
    """

    needs = ("{source}", "labels", "teacher.logits")  # type: ignore[assignment]

    def __init__(
        self,
        shape: ModelShape,
        *,
        source: str = "fused",
        hard: Fraction = 0.1,
        temperature: PositiveFloat = 4.0,
        label_smoothing: Fraction = 0.0,
    ):
        super().__init__(shape, source=source, label_smoothing=label_smoothing)
        self.hard, self.temperature = hard, temperature

    def forward(self, views: Views) -> Terms:
        """Return both parts by name, those that count, and the share of rows whose class is the teacher's."""
        rows = _told(views, self.source)
        if rows is None:
            names = {"distill_classes": self.hard < 1, "distill_classes_hard": self.hard > 0}
            return no_terms(self, views, [name for name, counts in names.items() if counts], ["teacher_agreement"])
        views = rows
        logits = self.classify(views.source(self.source)).float()
        teacher = views.teacher("logits")["logits"].float()
        losses, counts = {}, {}
        if self.hard < 1:
            losses["distill_classes"] = (1 - self.hard) * self.divergence(logits, teacher)
            counts["distill_classes"] = count(logits, len(logits))
        if self.hard > 0:
            sources = views.encoded() if self.source == "fused" else (self.source,)
            loss, counts["distill_classes_hard"] = self.loss(logits, shown_at_once(views.batch, sources))
            losses["distill_classes_hard"] = self.hard * loss
        agree = (logits.argmax(-1) == teacher.argmax(-1)).float().mean()
        return Terms(losses, {"teacher_agreement": agree}, counts)

    def divergence(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """Return T² * KL(teacher || student) of `logits (B, C)`: so its gradients do not shrink as T grows."""
        own, target = (F.log_softmax(each / self.temperature, -1) for each in (logits, teacher))
        return self.temperature**2 * F.kl_div(own, target, log_target=True, reduction="batchmean")


def _told(views: Views, source: str) -> Views | None:
    """Return the rows that have the source, and of which the teacher knew something; None where there are none."""
    rows = views.having(source)
    if rows is None or "present" not in rows.batch:
        return rows
    known = (~rows.teacher("logits")["logits"].isnan().any(1)).nonzero().squeeze(1)
    return rows.only(known) if len(known) else None
