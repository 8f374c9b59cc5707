"""Retrieval metrics over a whole evaluation set."""

from collections.abc import Mapping
from itertools import permutations
from math import comb
from types import MappingProxyType

import torch
from torch import Tensor

RECALLS = (1, 5, 10)
_ROWS_AT_ONCE = 1024


def first_right(queries: Tensor, keys: Tensor, concept: Tensor) -> Tensor:
    """Return for each query (N,) the rank, from 1, of its best right candidate. `queries`, `keys (N, D)`, `concept (N,)`.

    A candidate that scores the same as the right one counts as before it by half, so that ties win nothing.
    """
    ranks = []
    for rows in torch.arange(len(queries)).split(_ROWS_AT_ONCE):
        score = queries[rows] @ keys.T
        right = concept[rows, None] == concept[None]
        best = score.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
        before = ((score > best) & ~right).sum(1) + ((score == best) & ~right).sum(1) / 2
        ranks.append(before + 1)
    return torch.cat(ranks)


def chance_recall(concept: Tensor, k: int) -> float:
    """Return the recall at k of guessing: the mean over queries of 1 - C(n - right, k) / C(n, k)."""
    n = len(concept)
    if k > n:
        return 1.0
    # Concepts of one size have the same chance, and each as many queries as rows.
    sizes, concepts = concept.unique(return_counts=True)[1].unique(return_counts=True)
    missed = (many * size * comb(n - size, k) for size, many in zip(sizes.tolist(), concepts.tolist(), strict=True))
    return 1 - sum(missed) / (n * comb(n, k))


def retrieval_metrics(
    vectors: dict[str, Tensor], concept: Tensor, present: Mapping[str, Tensor] = MappingProxyType({})
) -> dict[str, float]:
    """Return recalls, their chance levels and the median rank for every direction between the modalities.

    `mean_reciprocal_rank` is over all queries of all directions: one number that is less a matter of luck than a recall.
    Where some rows lack a modality, `present (N,)` by its name, queries and candidates of a direction are the rows that have
    both, `<query>_to_<key>_candidates` of them, and `candidates` are those of the direction with most. A direction without
    any is left out.
    """
    metrics: dict[str, float] = {"candidates": 0.0}
    reciprocal = []
    for query, key in permutations(sorted(vectors), 2):
        both = [present[name] for name in (query, key) if name in present]
        rows = torch.stack(both).all(0) if both else slice(None)
        own = concept[rows]
        if not len(own):
            continue
        if both:
            metrics[f"{query}_to_{key}_candidates"] = float(len(own))
        metrics["candidates"] = max(metrics["candidates"], float(len(own)))
        rank = first_right(vectors[query][rows].float(), vectors[key][rows].float(), own)
        reciprocal.append((1 / rank).mean())
        for k in RECALLS:
            metrics[f"{query}_to_{key}_r{k}"] = (rank <= k).float().mean().item()
            metrics[f"{query}_to_{key}_r{k}_chance"] = chance_recall(own, k)
        metrics[f"{query}_to_{key}_median_rank"] = rank.median().item()
    if not reciprocal:
        return {}
    metrics["mean_reciprocal_rank"] = torch.stack(reciprocal).mean().item()
    return metrics
