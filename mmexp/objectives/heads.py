"""What the alignment objectives share: linear heads into one space, and the pairs of modalities that a loss runs over."""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from functools import partial
from itertools import combinations
from math import exp, log
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmexp.errors import RequestError, nearest
from mmexp.objectives.presence import Presence, term
from mmexp.objectives.shown import gathered, pairwise, related_items, shown
from mmexp.objectives.similarity import unit
from mmexp.objectives.tiles import LARGE, Right
from mmexp.rows import take
from mmexp.shapes import PretrainedSpace
from mmexp.step import Views
from mmexp.types import Encoded

PairWeights = dict[tuple[str, str], float]


class Heads(nn.ModuleDict):
    """One linear map for each modality, `dims[name]` to `widths[name]`; the parameters are `<modality>.weight`.

    A map that was taken over from a pretrained model may have a bias, several layers or none.
    """

    def __init__(self, dims: Mapping[str, int], widths: Mapping[str, int]):
        super().__init__({name: nn.Linear(dim, widths[name], bias=False) for name, dim in dims.items()})

    def forward(self, encoded: dict[str, Encoded]) -> dict[str, Tensor]:
        """Return unit vectors (B, widths[name]) for every modality that is there."""
        return {name: unit(self[name](e.pooled)) for name, e in encoded.items()}


def one_space(
    dims: Mapping[str, int], embed_dim: int, spaces: Mapping[str, PretrainedSpace] = MappingProxyType({})
) -> Heads:
    """Return heads that bring every modality into one space.

    Args:
        dims: the width of each modality's pooled encoding.
        embed_dim: the width of the space where it is a new one.
        spaces: the pretrained space of modalities whose encoders share one. Their heads start as its projections, and those of
            other modalities lead into it.

    Returns:
        The heads, from pooled encodings (B, D) to unit vectors (B, width of the space).
    """
    width = next((space.width for space in spaces.values()), embed_dim)
    heads = Heads(dims, dict.fromkeys(dims, width))
    for name in dims.keys() & spaces.keys():
        heads[name] = deepcopy(spaces[name].projection)
    return heads


def first_log_scale(temperature: float, spaces: Mapping[str, PretrainedSpace]) -> nn.Parameter:
    """Return the parameter by whose exponential cosines are scaled, at the pretrained value or 1 / `temperature`."""
    start = next((space.log_scale for space in spaces.values()), log(1 / temperature))
    return nn.Parameter(torch.tensor(start))


def scale_limit(max_scale: float, spaces: Mapping[str, PretrainedSpace]) -> float:
    """Return the largest logit scale: `max_scale`, or the pretrained scale where it is larger (SigLIP: 118)."""
    return max([max_scale, *(exp(space.log_scale) for space in spaces.values())])


def pair_weights(modalities: Iterable[str], pairs: Mapping[str, float] | None) -> PairWeights:
    """Return the weight of each pair of modalities in the sum of their losses; pairs without one are left out.

    `pairs` maps names such as `image-text`, the modalities in alphabetical order, to weights; None is the mean of all pairs.
    Raises RequestError for a name that is no pair, and where a modality is left without any.
    """
    modalities = sorted(modalities)
    every = {f"{a}-{b}": (a, b) for a, b in combinations(modalities, 2)}
    if pairs is None:
        return {pair: 1 / len(every) for pair in every.values()}
    for name in pairs:
        if name not in every:
            near = nearest("-".join(sorted(name.split("-"))), every)
            raise RequestError(f"'{name}' in pairs is no pair of this model.{near}")
    weights = {every[name]: weight for name, weight in pairs.items() if weight}
    for modality in modalities:
        if not any(modality in pair for pair in weights):
            raise RequestError(
                f"pairs leaves {modality} untrained. Give one of its pairs a weight above 0, or leave out its encoder."
            )
    return weights


def over_pairs(weights: PairWeights, present: Iterable[str], loss: Callable[[str, str], Tensor]) -> Tensor:
    """Return the weighted sum of `loss(a, b)` over the pairs of the modalities that are `present`."""
    there = set(present)
    return torch.stack([weight * loss(a, b) for (a, b), weight in weights.items() if {a, b} <= there]).sum()


def align(
    objective: nn.Module,
    views: Views,
    own: dict[str, Tensor],
    weights: PairWeights,
    loss: Callable[..., Tensor],
    tiled: Callable[..., Tensor] | None = None,
    both_ways: bool = True,
    shares: bool = False,
) -> Tensor:
    """Return the weighted sum over pairs of `loss(queries (B, D), keys (K, D), positive=(B, K))`, for `own` vectors (B, D).

    Keys are the rows of all processes, positive where they show the query's concept or hold one of its items: with `shares` by
    how far they do, else wherever they show anything of it. Each pair counts as the mean of its two directions; `both_ways`
    false spares the second one where the loss is the same from either side. Rows that lack one of a pair are neither queries
    nor keys of it. Where there are many similarities, `tiled(queries, keys, right=Right)` says the same as `loss` without all
    of them at once; if both directions have the same similarities it is asked once, with `both_ways=True`.
    """
    content = {name: shown(views.batch, name) for name in own}
    items = related_items(views, own)
    told = {name: gathered(views, part, items) for name, part in content.items()}
    every = {name: views.gather(vectors) for name, vectors in own.items()}
    presence = Presence(views, views.encoded())
    # Read off the rows there are, so that all processes do the same.
    large = tiled is not None and all(len(own[name]) * len(every[name]) >= LARGE for name in own)

    def one_way(a: str, b: str, **asked: bool) -> Tensor:
        rows, same = presence.both(a, b), [name for name in (a, b) if name in items]
        if large:
            queries, keys = (
                {n: t[chosen] for n, t in part.items()}
                for part, chosen in ((content[a], rows.own), (told[b], rows.every))
            )
            right = Right(queries, keys, wholly=not shares, items=same)
            found = partial(cast(Any, tiled), right=right, **asked)
        else:
            positive = pairwise(content[a], told[b], same)
            found = partial(loss, positive=(positive if shares else positive > 0)[rows.own][:, rows.every])
        return term(objective, views, rows, lambda: found(take(own[a], rows.own), take(every[b], rows.every)), every[b])

    def of_pair(a: str, b: str) -> Tensor:
        if both_ways and large and every[a] is own[a]:
            return one_way(a, b, both_ways=True)
        return (one_way(a, b) + one_way(b, a)) / 2 if both_ways else one_way(a, b)

    return over_pairs(weights, own, of_pair)
