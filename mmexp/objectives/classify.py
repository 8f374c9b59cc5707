"""Classification of the fused output, or of one modality alone."""

from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.types import Encoded, Fraction, ModelShape, Terms, Views


class Classify(nn.Module):
    """Cross-entropy on `label`; rows without a label (-1) do not count. `source` is `fused` or the name of a modality."""

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
        # Summed and divided here: the mean of no rows would be NaN.
        counted = (label >= 0).sum().clamp_min(1)
        loss = F.cross_entropy(logits, label, ignore_index=-1, reduction="sum", label_smoothing=self.label_smoothing)
        right = ((logits.argmax(-1) == label) & (label >= 0)).sum()
        return Terms({"classify": loss / counted}, {"accuracy": right / counted})
