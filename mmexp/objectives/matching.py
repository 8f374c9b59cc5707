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
        generator = views.generator("matching")
        logits, targets = [self.score(views.fused())], [torch.ones(len(concept), device=concept.device)]
        for name in sorted(encoded):
            rows = hard_negatives(encoded[name].pooled, concept, self.sharpness, generator)
            logits.append(self.score(views.fuse({**encoded, name: encoded[name][rows]})))
            targets.append((concept == concept[rows]).float())
        logit, target = torch.cat(logits).float(), torch.cat(targets)
        # Each kind of pair weighs the same, however many modalities were swapped.
        weight = torch.where(target > 0.5, float(len(logits) - 1), 1.0)
        loss = F.binary_cross_entropy_with_logits(logit, target, weight) / weight.mean()
        return Terms({"matching": loss}, {"matching_accuracy": ((logit > 0) == (target > 0.5)).float().mean()})
