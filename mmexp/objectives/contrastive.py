"""Symmetric InfoNCE between every pair of modalities (CLIP, arXiv:2103.00020), with several positives per concept."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.objectives.heads import align, first_log_scale, one_space, pair_weights, scale_limit
from mmexp.objectives.presence import paired_rows
from mmexp.objectives.similarity import clamp_log_scale, row_mean, similarity
from mmexp.objectives.tiles import tiled_info_nce
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Encoded, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt


def info_nce(
    queries: Tensor,
    keys: Tensor,
    scale: Tensor | float,
    positive: Tensor,
    among: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the mean over queries of the mean negative log-probability of their positives.

    `queries (B, D)` and `keys (K, D)` are unit vectors, `positive (B, K)` says from 0 to 1 how right a key is, `among (B, K)`
    is true for those that share the probability (None: all). With one positive each this is cross-entropy; with several it
    is the "out" form of SupCon (arXiv:2004.11362, eq. 2), and for mixed pictures the cross-entropy of mixup
    (arXiv:1710.09412). A query without positives counts as 0. `label_smoothing` is the share of what is right that is
    spread over all keys (arXiv:1512.00567, section 7).
    """
    logits = scale * similarity(queries, keys)
    if among is not None:
        # Not -inf: a query with nothing to choose from would have a gradient of NaN.
        logits = logits.masked_fill(~among, torch.finfo(logits.dtype).min)
    found = F.log_softmax(logits, -1)
    right = row_mean(found, positive)
    if label_smoothing:
        every = row_mean(found, torch.ones_like(found) if among is None else among)
        right = torch.where(positive.any(-1), (1 - label_smoothing) * right + label_smoothing * every, right)
    return -right.mean()


class Contrastive(nn.Module):
    """Pull the modalities of a concept together in one space of `embed_dim`; the temperature is learned.

    The logit scale is 1 / temperature; its logarithm is the parameter, clamped after each optimizer step to at most
    log(`max_scale`), or to the pretrained scale where that is larger.
    With `pretrained_heads` the heads and the temperature of towers that come from one pretrained dual encoder (CLIP, SigLIP)
    start as its own, and the space has its width.
    """

    needs = ("pooled", "pairs")

    def __init__(
        self,
        shape: ModelShape,
        *,
        embed_dim: PositiveInt = 256,
        temperature: PositiveFloat = 0.15,
        max_scale: PositiveFloat = 100.0,
        label_smoothing: Fraction = 0.0,
        pairs: Mapping[str, NonNegativeFloat] | None = None,
        pretrained_heads: bool = True,
    ):
        super().__init__()
        spaces = shape.spaces if pretrained_heads else {}
        self.heads, self.pretrained = one_space(shape.dims, embed_dim, spaces), sorted(spaces)
        self.log_scale = first_log_scale(temperature, spaces)
        self.max_scale, self.label_smoothing = scale_limit(max_scale, spaces), label_smoothing
        self.pairs = pair_weights(shape.dims, pairs)
        self.clamp_parameters()

    def clamp_parameters(self) -> None:
        """Keep the logit scale at or below `max_scale`. The task calls this after each optimizer step."""
        clamp_log_scale(self.log_scale, self.max_scale)

    def embed(self, encoded: dict[str, Encoded]) -> dict[str, Tensor]:
        """Return unit vectors (B, embed_dim) for every modality that is there."""
        return self.heads(encoded)

    def logit_scale(self) -> Tensor:
        """Return by what cosine similarities are multiplied before a softmax, a scalar."""
        return self.log_scale.exp()

    def evaluated_rows(self, views: Views) -> dict[str, Tensor]:
        """Return over how many rows the loss is a mean: the batches of an evaluation set are averaged by it."""
        return {"contrastive": paired_rows(views)}

    def forward(self, views: Views) -> Terms:
        """Return the loss over the pairs of modalities, and the temperature."""
        scale = self.logit_scale()
        whole, tiled = (
            partial(loss, scale=scale, label_smoothing=self.label_smoothing) for loss in (info_nce, tiled_info_nce)
        )
        loss = align(self, views, self.embed(views.encoded()), self.pairs, whole, tiled, shares=True)
        return Terms({"contrastive": loss}, {"temperature": 1 / scale.detach()})
