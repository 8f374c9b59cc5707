"""Few labels: what the classifier is sure of teaches it on a changed view (FixMatch, arXiv:2001.07685)."""

from typing import Literal

from torch.nn import functional as F

from mmexp.objectives.classify import Classify
from mmexp.objectives.presence import no_terms
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Encoded, Fraction, NonNegativeFloat, PositiveFloat


class FixMatch(Classify):
    """Classification of the rows with a label; of the others, those that it is sure of by `threshold` get a pseudo-label.

    Pseudo-labels come from the batch as it is (the weak view) and teach the `taught` view: `strong` is FixMatch, `clean` the
    pseudo-labels of Lee (2013). `unlabelled` weighs their loss. A batch of training has `mu` unlabelled rows for
    each labelled one (None: as many as the data have in proportion). `source` is `fused` or the name of a modality.
    """

    needs = ("{source}", "labels", "{taught}")  # type: ignore[assignment]  # one more than its parent

    def __init__(
        self,
        shape: ModelShape,
        *,
        source: str = "fused",
        threshold: Fraction = 0.95,
        mu: PositiveFloat | None = 7.0,
        unlabelled: NonNegativeFloat = 1.0,
        taught: Literal["strong", "clean"] = "strong",
        label_smoothing: Fraction = 0.0,
        class_weights: dict[str, float] | Literal["balanced"] | None = None,
    ):
        super().__init__(shape, source=source, label_smoothing=label_smoothing, class_weights=class_weights)
        self.threshold, self.unlabelled, self.taught = threshold, unlabelled, taught
        # Read by the loader of training batches.
        self.mu = mu

    def forward(self, views: Views) -> Terms:
        """Return the loss of the labelled rows and that of the sure ones among all unlabelled (the paper's eq. 4)."""
        rows = views.having(self.source)
        if rows is None:
            return no_terms(self, views, ["classify", "pseudo_labels"], ["accuracy", "sure"])
        views = rows
        losses, metrics, counts = super().forward(views)
        without = views.batch["label"] < 0
        logits = self.classify(views.source(self.source)).float()
        confidence, guess = logits.detach().softmax(-1).max(-1)
        sure = without & (confidence >= self.threshold)
        if self.taught == "strong":
            logits = self.classify(self._strong(views)).float()
        each = F.cross_entropy(logits, guess, reduction="none")
        counted = without.sum().clamp_min(1)
        loss = self.unlabelled * (each * sure).sum() / counted
        return Terms(
            {**losses, "pseudo_labels": loss},
            {**metrics, "sure": sure.sum() / counted},
            {**counts, "pseudo_labels": without.sum().float()},
        )

    def _strong(self, views: Views) -> Encoded:
        encoded = views.strong()
        return views.fuse(encoded) if self.source == "fused" else encoded[self.source]
