"""SigLIP's sigmoid loss (arXiv:2303.15343): each pair of rows is a question of its own, right or wrong."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.objectives.heads import align, first_log_scale, one_space, pair_weights, scale_limit
from mmexp.objectives.presence import paired_rows
from mmexp.objectives.similarity import clamp_log_scale, similarity
from mmexp.objectives.tiles import tiled_sigmoid_loss
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Encoded, NonNegativeFloat, PositiveFloat, PositiveInt


def sigmoid_loss(queries: Tensor, keys: Tensor, scale: Tensor, bias: Tensor, positive: Tensor) -> Tensor:
    """Return the mean over queries of the summed log-losses of all keys (arXiv:2303.15343, eq. 1 and algorithm 1).

    `queries (B, D)` and `keys (K, D)` are unit vectors, `positive (B, K)` is true for right keys, as many as there are.
    """
    logits = scale * similarity(queries, keys) + bias
    return -F.logsigmoid(torch.where(positive, logits, -logits)).sum(-1).mean()


class SigLip(nn.Module):
    """Tell right pairs from wrong ones in one space of `embed_dim`; temperature and bias are learned.

    The paper's multiplier t is 1 / `temperature`. It starts at 10 with a bias of -10 (section 3.2), so that the many wrong
    pairs do not begin with a large loss. The paper does not bound it; with `max_scale` it is clamped after each optimizer
    step, as open_clip does (100), or at the pretrained scale where that is larger: released SigLIP models have up to 118.
    With `pretrained_heads` the heads of towers that come from one pretrained dual encoder (SigLIP, CLIP) start as its own, and
    the space has its width. Temperature and bias start as those of a model that has both (SigLIP); CLIP was trained without a
    bias, so that its temperature would not fit this loss.
    """

    needs = ("pooled", "pairs")

    def __init__(
        self,
        shape: ModelShape,
        *,
        embed_dim: PositiveInt = 256,
        temperature: PositiveFloat = 0.1,
        bias: float = -10.0,
        max_scale: PositiveFloat | None = None,
        pairs: Mapping[str, NonNegativeFloat] | None = None,
        pretrained_heads: bool = True,
    ):
        super().__init__()
        spaces = shape.spaces if pretrained_heads else {}
        self.heads, self.pretrained = one_space(shape.dims, embed_dim, spaces), sorted(spaces)
        biased = {name: space for name, space in spaces.items() if space.bias is not None}
        biases = [space.bias for space in spaces.values() if space.bias is not None]
        self.pretrained_scale = bool(biased)
        self.log_scale = first_log_scale(temperature, biased)
        self.bias = nn.Parameter(torch.tensor(float(biases[0] if biases else bias)))
        self.max_scale = max_scale and scale_limit(max_scale, biased)
        self.pairs = pair_weights(shape.dims, pairs)
        self.clamp_parameters()

    def clamp_parameters(self) -> None:
        """Keep the logit scale at or below `max_scale`. The task calls this after each optimizer step."""
        if self.max_scale is not None:
            clamp_log_scale(self.log_scale, self.max_scale)

    def embed(self, encoded: dict[str, Encoded]) -> dict[str, Tensor]:
        """Return unit vectors (B, embed_dim) for every modality that is there."""
        return self.heads(encoded)

    def logit_scale(self) -> Tensor:
        """Return by what cosine similarities are multiplied before the bias is added, a scalar."""
        return self.log_scale.exp()

    def evaluated_rows(self, views: Views) -> dict[str, Tensor]:
        """Return over how many rows the loss is a mean: the batches of an evaluation set are averaged by it."""
        return {"siglip": paired_rows(views)}

    def forward(self, views: Views) -> Terms:
        """Return the loss over the pairs of modalities, and what temperature and bias have become."""
        scale = self.logit_scale()
        whole, tiled = (partial(loss, scale=scale, bias=self.bias) for loss in (sigmoid_loss, tiled_sigmoid_loss))
        own = self.embed(views.encoded())
        losses = {"siglip": align(self, views, own, self.pairs, whole, tiled, both_ways=False)}
        return Terms(losses, {"siglip_temperature": 1 / scale.detach(), "siglip_bias": self.bias.detach()})
