"""What a common space looks like: how far modalities lie apart in it, how near pairs are, how evenly it is used."""

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor

from mmexp.judging.said import Judged, gather
from mmexp.types import Samples

# Pairs of rows grow with the square of these.
ROWS = 5000


def uniformity(vectors: Tensor) -> float:
    """Return log of the mean of exp(-2 d^2) over pairs of `vectors (N, D)`: less is more even (arXiv:2005.10242, eq. 2)."""
    return torch.pdist(vectors.float()).square().mul(-2).exp().mean().log().item()


def geometry(judged: Judged, samples: Samples) -> dict[str, float]:
    """Return the `numbers` of all rows of a set."""
    gathered = gather(judged, samples)
    return numbers(gathered.below("vector/"), gathered.below("present/"))


def numbers(vectors: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> dict[str, float]:
    """Return `<m>_uniformity`, and of each pair `<a>_<b>_alignment` and `<a>_<b>_gap`, of unit `vectors[modality] (N, D)`.

    Alignment is the mean squared distance of a row's own vectors (arXiv:2005.10242, eq. 1), the gap the distance of the means of
    both modalities (arXiv:2203.02053, section 2). Over at most the first 5,000 rows that have both, by `present[modality] (N,)`.
    """
    if not vectors:
        return {}
    everywhere = torch.ones(len(next(iter(vectors.values()))), dtype=torch.bool)
    there = {name: present.get(name, everywhere).bool() for name in vectors}
    told = {
        f"{name}_uniformity": uniformity(one[there[name]][:ROWS])
        for name, one in vectors.items()
        if there[name].sum() > 1
    }
    for a, b in combinations(sorted(vectors), 2):
        rows = (there[a] & there[b]).nonzero().flatten()[:ROWS]
        if len(rows):
            left, right = vectors[a][rows].float(), vectors[b][rows].float()
            told[f"{a}_{b}_alignment"] = (left - right).square().sum(1).mean().item()
            told[f"{a}_{b}_gap"] = (left.mean(0) - right.mean(0)).norm().item()
    return told
