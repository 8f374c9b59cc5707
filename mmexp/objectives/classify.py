"""Classification of the fused output, or of one modality alone."""

from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.objectives.shown import shown_at_once
from mmexp.types import Encoded, Fraction, ModelShape, Shown, Terms, Views


class Classify(nn.Module):
    """Cross-entropy on `label`; rows without a label (-1) do not count. `source` is `fused` or the name of a modality.

    Where a picture is mixed, each of its labels counts by its share; the fused output answers for all modalities alike.
    """

    needs = ("{source}", "labels")

    def __init__(self, shape: ModelShape, *, source: str = "fused", label_smoothing: Fraction = 0.0):
        super().__init__()
        dim = shape.fused_dim if source == "fused" else shape.dims[source]
        assert dim is not None
        self.source, self.label_smoothing = source, label_smoothing
        self.head = nn.Linear(dim, shape.num_classes)

    def classify(self, encoded: Encoded) -> Tensor:
        """Return class logits (B, C)."""
        return self.head(encoded.pooled)

    def forward(self, views: Views) -> Terms:
        """Return the cross-entropy and the accuracy."""
        encoded = views.fused() if self.source == "fused" else views.encoded()[self.source]
        logits, label = self.classify(encoded).float(), views.batch["label"]
        sources = views.encoded() if self.source == "fused" else (self.source,)
        loss = self.loss(logits, shown_at_once(views.batch, sources))
        counted = (label >= 0).sum().clamp_min(1)
        right = ((logits.argmax(-1) == label) & (label >= 0)).sum()
        return Terms({"classify": loss}, {"accuracy": right / counted})

    def loss(self, logits: Tensor, content: Shown) -> Tensor:
        """Return the mean cross-entropy of `logits (B, C)`, each of a row's labels by its share."""
        label, share = content["label"], content["share"] * (content["label"] >= 0)
        each = logits[..., None].expand(-1, -1, label.shape[1])
        losses = F.cross_entropy(each, label, ignore_index=-1, reduction="none", label_smoothing=self.label_smoothing)
        # Summed and divided here: the mean of no rows would be NaN.
        return (losses * share).sum() / share.sum().clamp_min(1)
