"""The Siamese contrastive loss of Hadsell, Chopra and LeCun (CVPR 2006), across modalities."""

from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.objectives.heads import align, one_space, pair_weights
from mmexp.objectives.presence import paired_rows
from mmexp.objectives.similarity import row_mean, similarity
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Encoded, NonNegativeFloat, PositiveFloat, PositiveInt


def margin_loss(queries: Tensor, keys: Tensor, positive: Tensor, margin: float) -> Tensor:
    """Return the mean over queries of D^2 / 2 for their positives and max(0, margin - D)^2 / 2 for their negatives (eq. 4).

    `queries (B, D)` and `keys (K, D)` are unit vectors, their distance is from 0 to 2; `positive (B, K)` is true for right
    keys. Of a query's negatives those within the margin are averaged: a mean over all would fade as they leave.
    """
    squared = 2 - 2 * similarity(queries, keys)
    # The floor is below what fp32 can tell from 0: in one place there is no direction, and the root's gradient is infinite.
    gap = F.relu(margin - squared.clamp_min(1e-7).sqrt()).masked_fill(positive, 0.0)
    return (row_mean(squared / 2, positive) + row_mean(gap.square() / 2, gap > 0)).mean()


class Margin(nn.Module):
    """Pull the modalities of a concept together, and push those of another concept beyond `margin`.

    With `pretrained_heads` the heads on towers of one pretrained dual encoder (CLIP, SigLIP) start as its projections.
    """

    needs = ("pooled", "pairs")

    def __init__(
        self,
        shape: ModelShape,
        *,
        embed_dim: PositiveInt = 256,
        margin: PositiveFloat = 1.0,
        pairs: Mapping[str, NonNegativeFloat] | None = None,
        pretrained_heads: bool = True,
    ):
        super().__init__()
        spaces = shape.spaces if pretrained_heads else {}
        self.heads, self.pretrained = one_space(shape.dims, embed_dim, spaces), sorted(spaces)
        self.loss = partial(margin_loss, margin=margin)
        self.pairs = pair_weights(shape.dims, pairs)

    def embed(self, encoded: dict[str, Encoded]) -> dict[str, Tensor]:
        """Return unit vectors (B, embed_dim) for every modality that is there."""
        return self.heads(encoded)

    def evaluated_rows(self, views: Views) -> dict[str, Tensor]:
        """Return over how many rows the loss is a mean: the batches of an evaluation set are averaged by it."""
        return {"margin": paired_rows(views)}

    def forward(self, views: Views) -> Terms:
        """Return the loss over the pairs of modalities."""
        return Terms({"margin": align(self, views, self.embed(views.encoded()), self.pairs, self.loss)})
