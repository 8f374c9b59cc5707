"""A common space as a report shows it: its rows on a map of two directions, and how alike pairs are against all others."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmexp.judging.space import numbers
from mmexp.runs.curves import INK, SERIES, painted

ROWS, PAIRS = 300, 40


@dataclass
class Space:
    """`charts` are title, names of what is drawn and SVG; `numbers` those of `mmexp.judging.space`."""

    split: str
    charts: list[dict[str, Any]]
    numbers: dict[str, float]


def space_of(split: str, vectors: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Space | None:
    """Return what is shown of unit `vectors[modality] (N, D)`; None where no row has two modalities."""
    told = numbers(vectors, present)
    if not any(name.endswith("_gap") for name in told):
        return None
    everywhere = torch.ones(len(next(iter(vectors.values()))), dtype=torch.bool)
    whole = torch.stack([present.get(name, everywhere).bool() for name in vectors]).all(0).nonzero().flatten()
    rows = whole[torch.linspace(0, len(whole) - 1, min(ROWS, len(whole))).round().long()]
    chosen = {name: vectors[name][rows].float() for name in sorted(vectors)}
    if len(rows) < 2:
        return None
    charts = [_map(chosen), *(_alike(a, b, chosen) for a, b in combinations(chosen, 2))]
    return Space(split, charts[:4], told)


def _map(chosen: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the rows along their first two principal components, those of all modalities together."""
    every = torch.cat(list(chosen.values()))
    centred = every - every.mean(0)
    _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
    share = (singular[:2].square().sum() / singular.square().sum()).item()
    points = dict(zip(chosen, (centred @ directions[:2].T).split(len(centred) // len(chosen)), strict=True))

    def paint(axes: Any) -> None:
        ends = torch.stack([one[:: max(1, len(one) // PAIRS)] for one in points.values()])
        for one in ends.transpose(0, 1).numpy():
            axes.plot(one[:, 0], one[:, 1], color=INK, lw=0.5, alpha=0.35)
        for (_, one), colour in zip(points.items(), SERIES, strict=False):
            axes.scatter(one[:, 0].numpy(), one[:, 1].numpy(), s=7, color=colour, alpha=0.75, lw=0)
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel(f"{100 * share:.0f} % of the variance; lines join pairs")

    return {"title": "principal components", "names": list(points), "svg": painted("map", paint, (4.4, 3.4))}


def _alike(a: str, b: str, chosen: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return how alike a row's own two vectors are, and those of different rows."""
    scores = chosen[a] @ chosen[b].T
    other = scores[~torch.eye(len(scores), dtype=torch.bool)].numpy()
    edges = np.linspace(float(scores.min()), float(scores.max()) + 1e-6, 31)

    def paint(axes: Any) -> None:
        for values, colour in ((scores.diagonal().numpy(), SERIES[0]), (other, SERIES[1])):
            shares = np.histogram(values, edges)[0] / len(values)
            axes.stairs(shares, edges, color=colour, fill=True, alpha=0.45)
        axes.set_yticks([])
        axes.set_xlabel("cosine similarity")

    return {"title": f"{a} and {b}", "names": ["own pair", "other rows"], "svg": painted(f"{a} {b}", paint)}
