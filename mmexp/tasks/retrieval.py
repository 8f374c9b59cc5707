"""Retrieval metrics over the distinct items of a whole evaluation set."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from mmexp.tasks.ranks import chance, ranks

RECALLS = (1, 5, 10)
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Captions:
    """The texts of rows that have several, each encoded alone.

    Args:
        vectors: unit vectors (C, D).
        item: which text it is, (C,) int64, equal where two texts are the same.
        row: the row that it belongs to, (C,) int64.
        place: which of the row's texts it is, (C,) int64, counted from 0.
    """

    vectors: Tensor
    item: Tensor
    row: Tensor
    place: Tensor


@dataclass(frozen=True)
class Embeddings:
    """The vectors of one modality: `vectors (M, D)`, and of each its `item`, `row` and `place` among the row's texts, (M,) each.

    `place` is -1 where a row has one value of the modality.
    """

    vectors: Tensor
    item: Tensor
    row: Tensor
    place: Tensor

    def of_rows(self, rows: Tensor) -> "Embeddings":
        """Return those of the rows for which `rows (N,)` is true."""
        chosen = rows[self.row]
        return Embeddings(self.vectors[chosen], self.item[chosen], self.row[chosen], self.place[chosen])


class Distinct:
    """The distinct items of some embeddings: the first vector of each, in the order in which they appear."""

    def __init__(self, every: Embeddings, concept: Tensor):
        _, first, number = np.unique(every.item.numpy(), return_index=True, return_inverse=True)
        order = first.argsort()
        first, number = first[order], order.argsort()[number]
        self.vectors = every.vectors[first].float()
        self.row, self.place = every.row[first], every.place[first]
        # Which items are those of which rows, each pair once.
        self.of_row = np.unique(np.stack([number, every.row.numpy()]), axis=1)
        concepts = concept.numpy()[every.row.numpy()]
        self.concepts = np.unique(np.stack([number, concepts]), axis=1)

    def __len__(self) -> int:
        return len(self.vectors)

    def incidence(self, number: Mapping[int, int]) -> csr_matrix:
        """Return which items have which concepts, (items, concepts), the concepts by their `number`."""
        columns = np.array([number[concept] for concept in self.concepts[1].tolist()], np.int64)
        return csr_matrix((np.ones(len(columns), np.int32), (self.concepts[0], columns)), (len(self), len(number)))


class Direction:
    """Queries of one modality and candidates of another, both distinct items.

    A candidate is relevant to a query where a row has both, or where a row of the one and a row of the other have the same
    concept. Rows that lack one of the modalities take no part.
    """

    def __init__(self, query: Embeddings, key: Embeddings, concept: Tensor):
        self.query, self.key = Distinct(query, concept), Distinct(key, concept)
        # A row's concept is its own: rows that have both share it, so that the pair of a row is always relevant.
        number = {one: place for place, one in enumerate(np.unique(self.query.concepts[1]).tolist())}
        self._query, self._key = self.query.incidence(number), self.key.incidence(number)

    def relevant(self, chosen: slice) -> Tensor:
        """Return which candidates are relevant to some queries, (R, K) bool."""
        return torch.from_numpy((self._query[chosen] @ self._key.T).toarray() > 0)

    def counts(self) -> Tensor:
        """Return how many candidates are relevant to each query, (Q,)."""
        starts = range(0, len(self.query), 1024)
        return torch.cat([self.relevant(slice(start, start + 1024)).sum(1) for start in starts])

    def metrics(self) -> dict[str, float]:
        """Return `r1`, `r5`, `r10`, the same with `_chance`, `median_rank`, `candidates` and `mean_reciprocal_rank`.

        Nothing where every candidate is relevant to every query: no model could be wrong.
        """
        counts = self.counts()
        if bool((counts == len(self.key)).all()):
            return {}
        found = ranks(self.query.vectors, self.key.vectors, self.relevant)
        guessed = chance(counts, len(self.key))
        metrics = {"candidates": float(len(self.key))}
        for k in RECALLS:
            metrics[f"r{k}"] = found.recall(k).mean().item()
            metrics[f"r{k}_chance"] = guessed.recall(k).mean().item()
        metrics["median_rank"] = found.expected().quantile(0.5).item()
        return {**metrics, "mean_reciprocal_rank": found.reciprocal().mean().item()}


def directions(
    vectors: Mapping[str, Tensor],
    concept: Tensor,
    present: Mapping[str, Tensor] = NOTHING,
    items: Mapping[str, Tensor] = NOTHING,
    captions: Mapping[str, Captions] = NOTHING,
) -> Iterator[tuple[str, str, Direction]]:
    """Yield query modality, key modality and `Direction` of every two modalities that some row has both of.

    Args:
        vectors: by modality (N, D), a vector for each row.
        concept: (N,) equal where two rows show the same thing.
        present: by modality (N,) bool, true where a row has it; a modality that is not named is everywhere.
        items: by modality (N,) equal where two rows hold the same item, -1 where there is none; without it every row is one.
        captions: by modality the texts of rows that have several; they take the place of those rows' vectors.
    """
    every = {
        name: _embeddings(own, items.get(name, torch.arange(len(concept))), captions.get(name))
        for name, own in vectors.items()
    }
    everywhere = torch.ones(len(concept), dtype=torch.bool)
    there = {name: present.get(name, everywhere).bool() for name in vectors}
    for query, key in permutations(sorted(vectors), 2):
        both = there[query] & there[key]
        if both.any():
            yield query, key, Direction(every[query].of_rows(both), every[key].of_rows(both), concept)


def _embeddings(vectors: Tensor, item: Tensor, captions: Captions | None) -> Embeddings:
    row = torch.arange(len(item))
    # A row without a number is an item of its own.
    item = torch.where(item < 0, -1 - row, item)
    alone = Embeddings(vectors, item, row, torch.full_like(row, -1))
    if captions is None or not len(captions.row):
        return alone
    single = torch.ones(len(item), dtype=torch.bool)
    single[captions.row] = False
    one = alone.of_rows(single)
    return Embeddings(
        torch.cat([one.vectors.float(), captions.vectors.float()]),
        torch.cat([one.item, captions.item]),
        torch.cat([one.row, captions.row]),
        torch.cat([one.place, captions.place]),
    )


def retrieval_metrics(
    vectors: Mapping[str, Tensor],
    concept: Tensor,
    present: Mapping[str, Tensor] = NOTHING,
    items: Mapping[str, Tensor] = NOTHING,
    captions: Mapping[str, Captions] = NOTHING,
) -> dict[str, float]:
    """Return recall at 1, 5 and 10, its chance level, the median rank and the number of candidates for every direction.

    The names are `<query>_to_<key>_r1`, `..._r1_chance`, `..._median_rank`, `..._candidates`. `candidates` is that of
    `text_to_image`, or of the direction that has most where there is no such direction. `mean_reciprocal_rank` is the mean
    over the queries of all directions. A direction in which no answer could be wrong, as to a single text, is left out. The
    arguments are those of `directions`.
    """
    metrics: dict[str, float] = {}
    reciprocal, queries, most = 0.0, 0, 0.0
    for query, key, direction in directions(vectors, concept, present, items, captions):
        found = direction.metrics()
        if not found:
            continue
        reciprocal += found.pop("mean_reciprocal_rank") * len(direction.query)
        queries, most = queries + len(direction.query), max(most, found["candidates"])
        metrics |= {f"{query}_to_{key}_{name}": value for name, value in found.items()}
    if not queries:
        return {}
    count = metrics.get("text_to_image_candidates", most)
    return {"candidates": count, **metrics, "mean_reciprocal_rank": reciprocal / queries}
