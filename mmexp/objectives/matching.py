"""Matching: does this fused pair belong together? (image-text matching of ALBEF, arXiv:2107.07651)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.types import Encoded, ModelShape, PositiveFloat, Terms, Views


def hard_negatives(pooled: Tensor, concept: Tensor, sharpness: float, generator: torch.Generator) -> Tensor:
    """Draw for each row (B,) another row of a different concept, the likelier the more alike the two look in `pooled`.

    Likeness is taken within one modality, centred over the batch, so that it needs no shared space. A row whose batch
    holds no other concept gets itself; the caller sees that by equal concepts.
    """
    centred = F.normalize(pooled.detach().float() - pooled.detach().float().mean(0), dim=-1)
    weight = torch.exp(sharpness * (centred @ centred.T))
    weight = weight.masked_fill(concept[:, None] == concept[None], 0.0)
    weight = weight + torch.diag((weight.sum(-1) == 0).to(weight.dtype))
    return torch.multinomial(weight.cpu(), 1, generator=generator).squeeze(1).to(concept.device)


class Matching(nn.Module):
    """Tell true pairs from pairs in which one modality was swapped for a hard negative of the batch."""

    needs = ("fused", "pairs")

    def __init__(self, shape: ModelShape, *, sharpness: PositiveFloat = 5.0):
        super().__init__()
        assert shape.fused_dim is not None
        self.head = nn.Linear(shape.fused_dim, 1)
        self.sharpness = sharpness

    def score(self, fused: Encoded) -> Tensor:
        """Return the logit (B,) that the pair belongs together."""
        return self.head(fused.pooled).squeeze(-1)

    def forward(self, views: Views) -> Terms:
        """Return the loss over true and false pairs, and how many were told apart."""
        encoded, concept = views.encoded(), views.batch["concept"]
        false, still_right = self._swapped(encoded, concept, views.generator("matching"))
        logit = torch.cat([self.score(views.fused()), self.score(views.fuse(false))]).float()
        target = torch.cat([torch.ones_like(still_right), still_right])
        loss = F.binary_cross_entropy_with_logits(logit, target)
        return Terms({"matching": loss}, {"matching_accuracy": ((logit > 0) == (target > 0.5)).float().mean()})

    def _swapped(
        self, encoded: dict[str, Encoded], concept: Tensor, generator: torch.Generator
    ) -> tuple[dict[str, Encoded], Tensor]:
        """Swap one modality of every row, in turns; return the pairs and (B,) 1 where no other concept was to be had."""
        own = torch.arange(len(concept), device=concept.device)
        still_right = torch.ones(len(concept), device=concept.device)
        false = {}
        for turn, name in enumerate(sorted(encoded)):
            negative = hard_negatives(encoded[name].pooled, concept, self.sharpness, generator)
            rows = torch.where(own % len(encoded) == turn, negative, own)
            false[name] = encoded[name][rows]
            still_right = still_right * (concept[rows] == concept)
        return false, still_right
