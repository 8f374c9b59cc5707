"""Matching: does this fused pair belong together? (image-text matching of ALBEF, arXiv:2107.07651)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.objectives.presence import no_terms
from mmexp.objectives.shown import belongs, shown
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Batch, Encoded, PositiveFloat


def hard_negatives(
    pooled: Tensor, related: Tensor, sharpness: float, generator: torch.Generator, among: Tensor | None = None
) -> Tensor:
    """Draw for each row another row that is not related to it, the likelier the more alike the two look in `pooled`.

    Likeness is taken within one modality, centred over the batch, so that it needs no shared space.

    Args:
        pooled: features (B, D).
        related: (B, B) bool, true where two rows show the same; no row is drawn for one that it is related to.
        sharpness: the inverse temperature of the draw.
        generator: on the CPU.
        among: (B,) bool, the rows that may be drawn; None for all.

    Returns:
        Row numbers (B,). A row that every other one is related to gets itself.
    """
    pooled = pooled.detach().float()
    centred = F.normalize(pooled - (pooled if among is None else pooled[among]).mean(0), dim=-1)
    weight = torch.exp(sharpness * (centred @ centred.T))
    weight = weight.masked_fill(related, 0.0)
    weight = weight if among is None else weight.masked_fill(~among, 0.0)
    weight = weight + torch.diag((weight.sum(-1) == 0).to(weight.dtype))
    return torch.multinomial(weight.cpu(), 1, generator=generator).squeeze(1).to(pooled.device)


def related_rows(batch: Batch, modalities: Iterable[str]) -> Tensor:
    """Return which rows (B, B) have the same concept, or hold the same item of any of the `modalities`."""
    items = [item for name, item in batch.get("items", {}).items() if name in modalities]
    same = [item[:, None] == item.where(item >= 0, -2)[None] for item in items]
    return torch.stack([batch["concept"][:, None] == batch["concept"][None], *same]).any(0)


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
        encoded = views.encoded()
        rows = self._rows(encoded, related_rows(views.batch, list(encoded)), views.generator("matching"))
        false = {name: encoded[name][order] for name, order in rows.items()}
        logit = torch.cat([self.score(views.fused()), self.score(views.fuse(false))]).float()
        content = {name: shown(views.batch, name) for name in encoded}
        swapped = {name: {key: tensor[rows[name]] for key, tensor in part.items()} for name, part in content.items()}
        there = {name: encoded[name].there() for name in content} if views is not whole else None
        target = torch.cat([belongs(content, there), belongs(swapped, there)])
        loss = F.binary_cross_entropy_with_logits(logit, target)
        return Terms({"matching": loss}, {"matching_accuracy": ((logit > 0) == (target > 0.5)).float().mean()})

    def _rows(self, encoded: dict[str, Encoded], related: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return for each modality the rows (B,) of the false pairs: one modality of every row is swapped, in turns."""
        own = torch.arange(len(related), device=related.device)
        there = torch.stack([encoded[name].there() for name in sorted(encoded)])
        turns = there & (there.cumsum(0) - 1 == own % there.sum(0))
        rows = {}
        for name, turn in zip(sorted(encoded), turns, strict=True):
            pooled, among = encoded[name].pooled, encoded[name].present
            negative = hard_negatives(pooled, related, self.sharpness, generator, among)
            rows[name] = torch.where(turn, negative, own)
        return rows


def _pairs(views: Views) -> Views | None:
    """Return the rows that have two modalities or more, None where there are none."""
    encoded = list(views.encoded().values())
    if all(e.present is None for e in encoded):
        return views
    rows = (torch.stack([e.there() for e in encoded]).sum(0) > 1).nonzero().squeeze(1)
    return views.only(rows) if len(rows) else None
