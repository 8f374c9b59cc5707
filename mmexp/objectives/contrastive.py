"""Symmetric InfoNCE between every pair of modalities (CLIP, arXiv:2103.00020), with several positives per concept."""

from itertools import permutations
from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.objectives.shown import pairwise, shown
from mmexp.objectives.similarity import similarity, unit
from mmexp.types import Encoded, ModelShape, PositiveFloat, PositiveInt, Terms, Views


def info_nce(queries: Tensor, keys: Tensor, scale: Tensor, positive: Tensor) -> Tensor:
    """Return the mean over queries of the mean negative log-probability of their positives.

    `queries (B, D)` and `keys (K, D)` are unit vectors, `positive (B, K)` says how right a key is, 0 to 1; at least one is above
    0. With one positive each this is cross-entropy; with several it is the "out" form of SupCon (arXiv:2004.11362, eq. 2), and
    for mixed pictures the cross-entropy of mixup (arXiv:1710.09412).
    """
    log_probability = F.log_softmax(scale * similarity(queries, keys), -1)
    return -((log_probability * positive).sum(-1) / positive.sum(-1)).mean()


class Contrastive(nn.Module):
    """Pull the modalities of a concept together in one space of `embed_dim`; the temperature is learned."""

    needs = ("pooled",)

    def __init__(
        self,
        shape: ModelShape,
        *,
        embed_dim: PositiveInt = 256,
        temperature: PositiveFloat = 0.07,
        max_scale: PositiveFloat = 100.0,
    ):
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(dim, embed_dim, bias=False) for name, dim in shape.dims.items()})
        self.log_scale = nn.Parameter(torch.tensor(log(1 / temperature)))
        self.max_scale = max_scale

    def embed(self, encoded: dict[str, Encoded]) -> dict[str, Tensor]:
        """Return unit vectors (B, embed_dim) for every modality that is there."""
        return {name: unit(self.heads[name](e.pooled)) for name, e in encoded.items()}

    def forward(self, views: Views) -> Terms:
        """Return the loss over every pair of modalities, and the temperature."""
        embedded = self.embed(views.encoded())
        content = {name: shown(views.batch, name) for name in embedded}
        scale = self.log_scale.exp().clamp(max=self.max_scale)
        every = {name: views.gather(vectors) for name, vectors in embedded.items()}
        losses = [
            info_nce(embedded[a], every[b], scale, pairwise(views, content[a], content[b]))
            for a, b in permutations(sorted(embedded), 2)
        ]
        return Terms({"contrastive": torch.stack(losses).mean()}, {"temperature": 1 / scale.detach()})
