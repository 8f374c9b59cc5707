"""What fusions of poolings share: the modalities side by side, which of them a row has, and weights over those."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmexp.types import Encoded


def kept(encoded: Encoded, values: Tensor, otherwise: float = 0.0) -> Tensor:
    """Return `values (B, D)` of the rows that have the modality, and `otherwise` of those that lack it."""
    return values if encoded.present is None else torch.where(encoded.present[:, None], values, otherwise)


def projected(project: nn.ModuleDict, encoded: Mapping[str, Encoded]) -> tuple[Tensor, Tensor]:
    """Return the projected poolings (B, M, D) of all M modalities, zeros where one is missing, and `there (B, M)`."""
    rows = {name: kept(encoded[name], project[name](encoded[name].pooled)) for name in project if name in encoded}
    blank = torch.zeros_like(next(iter(rows.values())))
    return torch.stack([rows.get(name, blank) for name in project], 1), there(project, encoded)


def there(names: Any, encoded: Mapping[str, Encoded]) -> Tensor:
    """Return (B, M) true where a row has a modality, in the order of `names`."""
    known = {name: one.there() for name, one in encoded.items()}
    nowhere = torch.zeros_like(next(iter(known.values())))
    return torch.stack([known.get(name, nowhere) for name in names], 1)


def shares(scores: Tensor, there: Tensor) -> Tensor:
    """Return the softmax of `scores` over the last dimension, of those `there` alone; zeros where none is."""
    least = torch.finfo(scores.dtype).min
    return scores.masked_fill(~there, least).softmax(-1) * there


class WeightedMean(nn.Module):
    """A mean over the modalities that a row has, by weights that are learned, from equal ones on, or stay equal."""

    scores: Tensor

    def __init__(self, modalities: int, learned: bool):
        super().__init__()
        # The weight of a single modality is 1, whatever is learned.
        if learned and modalities > 1:
            self.scores = nn.Parameter(torch.zeros(modalities))
        else:
            self.register_buffer("scores", torch.zeros(modalities), persistent=False)

    def forward(self, vectors: Tensor, there: Tensor) -> Tensor:
        """Return the mean (B, D) of `vectors (B, M, D)`, of those that are `there (B, M)`."""
        return (shares(self.scores.expand(there.shape), there).to(vectors.dtype).unsqueeze(-1) * vectors).sum(1)
