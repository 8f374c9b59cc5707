"""Retrieval numbers on cases small enough to count by hand."""

import pytest
import torch

from mmexp.tasks.evaluation import Gathered, classification_metrics
from mmexp.tasks.retrieval import chance_recall, first_right, retrieval_metrics


def test_rank_of_the_first_right_candidate():
    queries, keys = torch.eye(3), torch.eye(3)[[1, 0, 2]]
    assert first_right(queries, keys, torch.tensor([0, 1, 2])).tolist() == [2.5, 2.5, 1.0]
    # The same concept in two rows: either is right.
    assert first_right(queries, keys, torch.tensor([0, 0, 2])).tolist() == [1.0, 1.0, 1.0]


def test_mean_reciprocal_rank_is_over_both_directions():
    numbers = retrieval_metrics({"image": torch.eye(3)[[1, 0, 2]], "text": torch.eye(3)}, torch.tensor([0, 1, 2]))
    assert numbers["mean_reciprocal_rank"] == pytest.approx((1 / 2.5 + 1 / 2.5 + 1) / 3)


def test_ties_win_nothing():
    same = torch.ones(5, 2)
    rank = first_right(same, same, torch.arange(5))
    assert rank.tolist() == [3.0] * 5


def test_chance_of_guessing():
    assert chance_recall(torch.arange(10), 1) == pytest.approx(0.1)
    assert chance_recall(torch.arange(10), 10) == pytest.approx(1.0)
    assert chance_recall(torch.tensor([0, 0, 1, 1]), 1) == pytest.approx(0.5)
    # Two right of four, two drawn: 1 - (2/4)(1/3).
    assert chance_recall(torch.tensor([0, 0, 1, 1]), 2) == pytest.approx(1 - 1 / 6)


def test_random_vectors_are_at_chance():
    generator = torch.Generator().manual_seed(0)
    vectors = {name: torch.randn(2000, 8, generator=generator) for name in ("image", "text")}
    numbers = retrieval_metrics(vectors, torch.arange(2000) // 4)
    assert numbers["text_to_image_r10"] == pytest.approx(numbers["text_to_image_r10_chance"], abs=0.01)
    assert numbers["candidates"] == 2000


def test_rows_seen_twice_by_padded_processes_count_once():
    gathered = Gathered()
    rows = {"index": torch.tensor([2, 0, 1, 0]), "concept": torch.tensor([7, 5, 6, 5])}
    gathered.add({"loss": torch.tensor(1.0)}, rows, 4)
    assert gathered.stacked()["concept"].tolist() == [5, 6, 7]


def test_classification_skips_rows_without_label():
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    numbers = classification_metrics(logits, torch.tensor([0, 0, -1]))
    assert numbers["accuracy"] == pytest.approx(0.5)
