"""Matching: does this fused pair belong together? (image-text matching of ALBEF, arXiv:2107.07651)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.objectives.presence import no_terms
from mmexp.objectives.shown import belongs, shown
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Encoded, PositiveFloat


def hard_negatives(
    pooled: Tensor, concept: Tensor, sharpness: float, generator: torch.Generator, among: Tensor | None = None
) -> Tensor:
    """Draw for each row (B,) another row of a different concept, the likelier the more alike the two look in `pooled`.

    Likeness is taken within one modality, centred over the batch, so that it needs no shared space. A row whose batch
    holds no other concept gets itself; the caller sees that by equal concepts. Rows that are not `among (B,)` are drawn by none.
    """
    pooled = pooled.detach().float()
    centred = F.normalize(pooled - (pooled if among is None else pooled[among]).mean(0), dim=-1)
    weight = torch.exp(sharpness * (centred @ centred.T))
    weight = weight.masked_fill(concept[:, None] == concept[None], 0.0)
    weight = weight if among is None else weight.masked_fill(~among, 0.0)
    weight = weight + torch.diag((weight.sum(-1) == 0).to(weight.dtype))
    return torch.multinomial(weight.cpu(), 1, generator=generator).squeeze(1).to(concept.device)


class Matching(nn.Module):
    """Tell true pairs from pairs in which one modality was swapped for a hard negative of the batch.

    A pair of a mixed picture is as true as the share that its words are about. Rows of one modality alone are no pairs.
    """

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
        whole, pairs = views, _pairs(views)
        if pairs is None:
            return no_terms(self, whole, ["matching"], ["matching_accuracy"])
        views = pairs
        encoded, concept = views.encoded(), views.batch["concept"]
        rows = self._rows(encoded, concept, views.generator("matching"))
        false = {name: encoded[name][order] for name, order in rows.items()}
        logit = torch.cat([self.score(views.fused()), self.score(views.fuse(false))]).float()
        content = {name: shown(views.batch, name) for name in encoded}
        swapped = [{key: tensor[rows[name]] for key, tensor in part.items()} for name, part in content.items()]
        there = [encoded[name].there() for name in content] if views is not whole else []
        target = torch.cat([belongs(list(content.values()), there), belongs(swapped, there)])
        loss = F.binary_cross_entropy_with_logits(logit, target)
        return Terms({"matching": loss}, {"matching_accuracy": ((logit > 0) == (target > 0.5)).float().mean()})

    def _rows(self, encoded: dict[str, Encoded], concept: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return for each modality the rows (B,) of the false pairs: one modality of every row is swapped, in turns."""
        own = torch.arange(len(concept), device=concept.device)
        there = torch.stack([encoded[name].there() for name in sorted(encoded)])
        turns = there & (there.cumsum(0) - 1 == own % there.sum(0))
        rows = {}
        for name, turn in zip(sorted(encoded), turns, strict=True):
            pooled, among = encoded[name].pooled, encoded[name].present
            negative = hard_negatives(pooled, concept, self.sharpness, generator, among)
            rows[name] = torch.where(turn, negative, own)
        return rows


def _pairs(views: Views) -> Views | None:
    """Return the rows that have two modalities or more, None where there are none."""
    encoded = list(views.encoded().values())
    if all(e.present is None for e in encoded):
        return views
    rows = (torch.stack([e.there() for e in encoded]).sum(0) > 1).nonzero().squeeze(1)
    return views.only(rows) if len(rows) else None
