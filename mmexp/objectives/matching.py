"""Matching: does this fused pair belong together? (image-text matching of ALBEF, arXiv:2107.07651)."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.draws import RowGenerator
from mmexp.objectives.presence import count, no_terms
from mmexp.objectives.shown import belongs, shown
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Encoded, PositiveFloat


def hard_negatives(
    queries: Tensor, keys: Tensor, related: Tensor, sharpness: float, chance: Tensor, among: Tensor
) -> Tensor:
    """Draw for each row a row that is not related to it, the likelier the more alike the two look in their pooled vectors.

    The probability is proportional to exp(`sharpness` * cosine), as in ALBEF (section 3.2), but within one modality and
    with vectors centred over the batch, so that it needs no common space.

    Args:
        queries: Pooled vectors of this process's rows `(B, D)`.
        keys: Those of the rows of all processes `(K, D)`.
        related: `(B, K)` true where a query and a key show the same; none is drawn for one that it is related to.
        sharpness: The inverse temperature.
        chance: A uniform random number of each query `(B,)`, on the CPU: the quantile that is drawn.
        among: Which keys `(K,)` may be drawn.

    Returns:
        Row numbers `(B,)` of the keys, -1 where none may be drawn for a query.
    """
    if not among.any():
        return torch.full((len(queries),), -1, device=queries.device)
    centre = keys.detach().float()[among].mean(0)
    own, every = (F.normalize(vectors.detach().float() - centre, dim=-1) for vectors in (queries, keys))
    with torch.autocast(queries.device.type, enabled=False):
        weight = torch.exp(sharpness * (own @ every.T)).double()
    weight = weight * (~related & among)
    cumulative = weight.cpu().cumsum(1)
    wanted = chance.double()[:, None] * cumulative[:, -1:]
    # The first row whose cumulative weight is above the quantile: one of weight 0 never is.
    drawn = torch.searchsorted(cumulative, wanted, right=True).squeeze(1).clamp_max(len(keys) - 1)
    return drawn.where(cumulative[:, -1] > 0, -1).to(queries.device)


def related_rows(views: Views) -> Tensor:
    """Return which rows (B, K) of all processes have a row's concept, or hold the same item of any modality."""
    concept = views.batch["concept"]
    same = [concept[:, None] == views.gather(concept)[None]]
    items = views.batch.get("items", {})
    for item in (items[name] for name in sorted(views.encoded()) if name in items):
        every = views.gather(item)
        same.append(item[:, None] == every.where(every >= 0, -2)[None])
    return torch.stack(same).any(0)


class _Candidates:
    """The rows from which false pairs are made: those of all processes, so that their number changes nothing."""

    def __init__(self, views: Views):
        own = {name: _padded(views, encoded) for name, encoded in sorted(views.encoded().items())}
        self.keys = {name: _gathered(views, encoded) for name, encoded in own.items()}
        content = {name: dict(sorted(shown(views.batch, name).items())) for name in own}
        every = {name: {key: views.gather(part) for key, part in whole.items()} for name, whole in content.items()}
        self.related = related_rows(views)
        self.there = torch.stack([encoded.there() for encoded in self.keys.values()])
        self.rows, self.content, self.first = own, content, 0
        if any(self.keys[name].pooled is not own[name].pooled for name in own):
            # This process's rows, then those of all: what stays as it is comes without a detour through the others.
            self.first = len(views.batch["index"])
            self.rows = {name: _joined(own[name], self.keys[name]) for name in own}
            self.content = {
                name: {key: torch.cat([content[name][key], every[name][key]]) for key in content[name]} for name in own
            }

    def a_pair(self) -> dict[str, Encoded]:
        """Return a pair of any process, of which there has to be one, as a batch of one row."""
        row = (self.there.sum(0) > 1).nonzero()[0]
        return {name: encoded[row] for name, encoded in self.keys.items()}


def _padded(views: Views, encoded: Encoded) -> Encoded:
    """Return an encoding with as many tokens as the longest of all processes."""
    length = encoded.tokens.shape[1]
    more = int(views.gather(torch.tensor([length], device=encoded.tokens.device)).max()) - length
    if not more:
        return encoded
    return replace(encoded, tokens=F.pad(encoded.tokens, (0, 0, 0, more)), mask=F.pad(encoded.mask, (0, more)))


def _gathered(views: Views, encoded: Encoded) -> Encoded:
    # Truth values as numbers on the way: not every backend gathers these.
    present = None if encoded.present is None else views.gather(encoded.present.long()).bool()
    pooled = views.gather(encoded.pooled)
    if not encoded.tokens.shape[1]:  # nobody looks at tokens
        tokens, mask = (part.new_zeros(len(pooled), *part.shape[1:]) for part in (encoded.tokens, encoded.mask))
        return Encoded(tokens, pooled, mask, encoded.parts, present)
    mask = views.gather(encoded.mask.long()).bool()
    return Encoded(views.gather(encoded.tokens), pooled, mask, encoded.parts, present)


def _joined(own: Encoded, every: Encoded) -> Encoded:
    present = None if own.present is None else torch.cat([own.there(), every.there()])
    tokens, pooled, mask = (torch.cat([getattr(own, n), getattr(every, n)]) for n in ("tokens", "pooled", "mask"))
    return Encoded(tokens, pooled, mask, own.parts, present)


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
        """Return the mean loss over true and false pairs, as many of either, and the share that is classified correctly."""
        candidates, pairs = _Candidates(views), _pairs(views)
        if pairs is not None and not len(pairs):
            terms = no_terms(self, views, ["matching"], ["matching_accuracy"])
            if not (candidates.there.sum(0) > 1).any():
                return terms
            # Other processes have pairs and go back through what was gathered, in which this one has to take part.
            nothing = 0.0 * self.score(views.fuse(candidates.a_pair())).sum()
            return terms._replace(losses={"matching": terms.losses["matching"] + nothing})
        rows = self._rows(candidates, views)
        if pairs is not None:
            views, rows = views.only(pairs), {name: part[pairs] for name, part in rows.items()}
        false = {name: candidates.rows[name][part] for name, part in rows.items()}
        logit = torch.cat([self.score(views.fused()), self.score(views.fuse(false))]).float()
        content = {name: shown(views.batch, name) for name in false}
        swapped = {
            name: {key: part[rows[name]] for key, part in whole.items()} for name, whole in candidates.content.items()
        }
        encoded = views.encoded()
        there = {name: encoded[name].there() for name in content} if pairs is not None else None
        target = torch.cat([belongs(content, there), belongs(swapped, there)])
        loss = F.binary_cross_entropy_with_logits(logit, target)
        accuracy = ((logit > 0) == (target > 0.5)).float().mean()
        return Terms({"matching": loss}, {"matching_accuracy": accuracy}, {"matching": count(logit, len(logit))})

    def _rows(self, candidates: _Candidates, views: Views) -> dict[str, Tensor]:
        """Return for each modality which of the candidates (B,) stand in the false pairs: one modality of each row is swapped."""
        encoded, index = views.encoded(), views.batch["index"]
        own, generator = torch.arange(len(index), device=index.device), views.row_generator("matching")
        turns = _turns(torch.stack([encoded[name].there() for name in sorted(encoded)]), generator)
        pairs = candidates.there.sum(0) > 1
        rows = {}
        for name, turn, there in zip(sorted(encoded), turns, candidates.there, strict=True):
            drawn = hard_negatives(
                encoded[name].pooled,
                candidates.keys[name].pooled,
                candidates.related,
                self.sharpness,
                generator.rand(len(own)),
                there & pairs,
            )
            rows[name] = torch.where(turn & (drawn >= 0), candidates.first + drawn, own)
        return rows


def _turns(there: Tensor, generator: RowGenerator) -> Tensor:
    """Return which modality (M, B) of each row is swapped: one of those that are `there (M, B)`, drawn with equal chances."""
    chance, most = generator.rand(there.shape[1]).to(there.device), there.sum(0)
    # A product may be rounded up to the number itself.
    number = torch.minimum((chance * most).long(), most - 1)
    return there & (there.cumsum(0) - 1 == number)


def _pairs(views: Views) -> Tensor | None:
    """Return the rows (R,) that have two modalities or more, None where no row of the data lacks any."""
    encoded = list(views.encoded().values())
    if all(e.present is None for e in encoded):
        return None
    return (torch.stack([e.there() for e in encoded]).sum(0) > 1).nonzero().squeeze(1)
