"""Triplet loss across modalities, in both directions, with the negatives mined in the batch (FaceNet, VSE++)."""

from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.objectives.heads import align, one_space, pair_weights
from mmexp.objectives.presence import paired_rows
from mmexp.objectives.similarity import row_mean, similarity
from mmexp.rows import take
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Encoded, NonNegativeFloat, PositiveFloat, PositiveInt


def triplet_loss(queries: Tensor, keys: Tensor, positive: Tensor, margin: float, mining: str) -> Tensor:
    """Return the mean over queries, then over their positives, of max(0, margin + cos(query, negative) - cos(query, positive)).

    `queries (B, D)` and `keys (K, D)` are unit vectors; all keys that are not `positive (B, K)` are negatives. `hard` takes
    the nearest one (VSE++, arXiv:1707.05612, eq. 6), `semi_hard` the nearest of those that lie farther than the positive
    (FaceNet, arXiv:1503.03832, eq. 4; no loss where there is none), `all` the mean of those that violate the margin (batch
    all, arXiv:1703.07737). FaceNet's squared distance is 2 - 2 cos: its margin of 0.2 is one of 0.1 here.
    """
    score = similarity(queries, keys)
    anchor, right = positive.nonzero(as_tuple=True)
    wanted = take(score.flatten(), anchor * score.shape[1] + right)[:, None]
    wrong = take(score.masked_fill(positive, -torch.inf), anchor)
    if mining == "semi_hard":
        wrong = wrong.masked_fill(wrong >= wanted, -torch.inf)
    if mining != "all":
        wrong = wrong.amax(-1, keepdim=True)
    hinge = F.relu(margin + wrong - wanted)
    of_pair = row_mean(hinge, hinge > 0)
    return (of_pair / positive.sum(-1)[anchor]).sum() / len(queries)


class Triplet(nn.Module):
    """Keep a concept's modalities nearer to each other, by a `margin` in cosine, than to those of another concept.

    With `pretrained_heads` the heads on towers of one pretrained dual encoder (CLIP, SigLIP) start as its projections.
    """

    needs = ("pooled", "pairs")

    def __init__(
        self,
        shape: ModelShape,
        *,
        embed_dim: PositiveInt = 256,
        margin: PositiveFloat = 0.2,
        mining: Literal["hard", "semi_hard", "all"] = "semi_hard",
        pairs: Mapping[str, NonNegativeFloat] | None = None,
        pretrained_heads: bool = True,
    ):
        super().__init__()
        spaces = shape.spaces if pretrained_heads else {}
        self.heads, self.pretrained = one_space(shape.dims, embed_dim, spaces), sorted(spaces)
        self.loss = partial(triplet_loss, margin=margin, mining=mining)
        self.pairs = pair_weights(shape.dims, pairs)

    def embed(self, encoded: dict[str, Encoded]) -> dict[str, Tensor]:
        """Return unit vectors (B, embed_dim) for every modality that is there."""
        return self.heads(encoded)

    def evaluated_rows(self, views: Views) -> dict[str, Tensor]:
        """Return over how many rows the loss is a mean: the batches of an evaluation set are averaged by it."""
        return {"triplet": paired_rows(views)}

    def forward(self, views: Views) -> Terms:
        """Return the loss over the pairs of modalities."""
        return Terms({"triplet": align(self, views, self.embed(views.encoded()), self.pairs, self.loss)})
