"""Supervised contrastive learning (SupCon, arXiv:2004.11362): rows of one label attract each other."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from mmexp.objectives.contrastive import info_nce
from mmexp.objectives.heads import one_space, over_pairs, pair_weights
from mmexp.objectives.presence import Both, Presence, paired_rows, term
from mmexp.objectives.shown import related_items
from mmexp.rows import take
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Encoded, NonNegativeFloat, PositiveFloat, PositiveInt


def relations(same: Tensor, known: Tensor, index: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Return which of the vectors of two modalities are positives of each other, and which are candidates: (2B, 2K).

    `same (B, K)` is true where rows belong together, `known (K,)` where it is known of a row with which others it does;
    `index (B,)` and `indices (K,)` number the rows, since a vector is no candidate of its own.
    """
    itself = index[:, None] == indices[None]
    among = known.repeat(2) & ~torch.block_diag(itself, itself)
    return same.repeat(2, 2) & among, among


class SupCon(nn.Module):
    """Rows of the `same` label or concept are positives, within and across the two modalities of a pair.

    The modalities take the place of the paper's two views of a row: each vector of either is an anchor among all others
    of both. Rows without a label (-1) take no part where `same` is label, nor do those that lack one of the pair; where it is
    concept, rows that hold the same item of either modality are positives too. The temperature stays as the paper has it.
    With `pretrained_heads` the heads on towers of one pretrained dual encoder (CLIP, SigLIP) start as its projections.
    """

    needs = ("pooled", "pairs", "{same}s")

    def __init__(
        self,
        shape: ModelShape,
        *,
        embed_dim: PositiveInt = 256,
        temperature: PositiveFloat = 0.1,
        same: Literal["label", "concept"] = "label",
        pairs: Mapping[str, NonNegativeFloat] | None = None,
        pretrained_heads: bool = True,
    ):
        super().__init__()
        spaces = shape.spaces if pretrained_heads else {}
        self.heads, self.pretrained = one_space(shape.dims, embed_dim, spaces), sorted(spaces)
        self.temperature, self.same = temperature, same
        self.pairs = pair_weights(shape.dims, pairs)

    def embed(self, encoded: dict[str, Encoded]) -> dict[str, Tensor]:
        """Return unit vectors (B, embed_dim) for every modality that is there."""
        return self.heads(encoded)

    def logit_scale(self) -> Tensor:
        """Return by what cosine similarities are multiplied before a softmax, a scalar."""
        return torch.tensor(1 / self.temperature)

    def evaluated_rows(self, views: Views) -> dict[str, Tensor]:
        """Return over how many rows the loss is a mean: the batches of an evaluation set are averaged by it."""
        return {"supcon": paired_rows(views, views.batch[self.same] >= 0)}

    def forward(self, views: Views) -> Terms:
        """Return the loss over the pairs of modalities."""
        own = self.embed(views.encoded())
        every = {name: views.gather(vectors) for name, vectors in own.items()}
        key, index = views.batch[self.same], views.batch["index"]
        keys, indices, presence = views.gather(key), views.gather(index), Presence(views, views.encoded())
        names = related_items(views, own) if self.same == "concept" else []
        items = {name: (item := views.batch["items"][name], views.gather(item)) for name in names}

        def mean(a: str, b: str, rows: Both) -> Tensor:
            compared = [(key, keys), *(items[name] for name in (a, b) if name in items)]
            same = [one[rows.own, None] == other[None, rows.every] for one, other in compared]
            known = keys[rows.every] >= 0
            positive, among = relations(torch.stack(same).any(0), known, index[rows.own], indices[rows.every])
            queries, candidates = (
                torch.cat([part[a], part[b]]) for part in (_rows(own, rows.own), _rows(every, rows.every))
            )
            # Over the anchors that have a label, counted over all processes: each of them may hold another number.
            share = known.float().mean().clamp_min(1 / len(known))
            return info_nce(queries, candidates, 1 / self.temperature, positive, among) / share

        def loss(a: str, b: str) -> Tensor:
            rows = presence.both(a, b)
            return term(self, views, rows, lambda: mean(a, b, rows), every[a], every[b])

        return Terms({"supcon": over_pairs(self.pairs, own, loss)})


def _rows(vectors: dict[str, Tensor], rows: Tensor | slice) -> dict[str, Tensor]:
    return {name: take(part, rows) for name, part in vectors.items()}
