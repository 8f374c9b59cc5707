"""Retrieval over distinct items, against clip-benchmark's metric, plain loops, and cases small enough to count by hand."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmexp.tasks.evaluation import Gathered, classification_metrics
from mmexp.tasks.ranks import average_precision, chance, ranks
from mmexp.tasks.retrieval import Captions, retrieval_metrics

PICTURES, CAPTIONS = 1000, 5


@pytest.fixture(scope="module")
def flickr():
    """Vectors of 1,000 pictures with 5 captions each, near enough for recalls between chance and 1, and a row a caption."""
    generator = torch.Generator().manual_seed(0)
    pictures = F.normalize(torch.randn(PICTURES, 32, generator=generator), dim=1)
    picture = torch.arange(PICTURES).repeat_interleave(CAPTIONS)[torch.randperm(5 * PICTURES, generator=generator)]
    noise = torch.randn(len(picture), 32, generator=generator)
    return pictures, F.normalize(pictures[picture] + 0.35 * noise, dim=1), picture


def rows_of(flickr):
    """Return a row a caption, the picture repeated, without stated concepts."""
    pictures, captions, picture = flickr
    vectors = {"image": pictures[picture], "text": captions}
    items = {"image": picture + 7, "text": torch.arange(len(picture)) + 11}
    return vectors, torch.arange(len(picture)), items


def test_retrieval_agrees_with_clip_benchmark_on_the_flickr_protocol(flickr):
    from clip_benchmark.metrics.zeroshot_retrieval import batchify, recall_at_k

    pictures, captions, picture = flickr
    vectors, concept, items = rows_of(flickr)
    found = retrieval_metrics(vectors, concept, items=items)
    positive = picture[:, None] == torch.arange(PICTURES)[None]
    scores = captions @ pictures.T
    for k in (1, 5, 10):
        of_texts = batchify(recall_at_k, scores, positive, 64, "cpu", k=k)
        of_pictures = batchify(recall_at_k, scores.T, positive.T, 64, "cpu", k=k)
        assert found[f"text_to_image_r{k}"] == pytest.approx((of_texts > 0).float().mean().item(), abs=1e-6)
        assert found[f"image_to_text_r{k}"] == pytest.approx((of_pictures > 0).float().mean().item(), abs=1e-6)
        assert found[f"text_to_image_r{k}_chance"] == pytest.approx(k / PICTURES)
    assert (found["candidates"], found["image_to_text_candidates"]) == (PICTURES, CAPTIONS * PICTURES)


def test_median_and_reciprocal_rank_agree_with_a_plain_loop_on_the_flickr_protocol(flickr):
    pictures, captions, picture = flickr
    vectors, concept, items = rows_of(flickr)
    found = retrieval_metrics(vectors, concept, items=items)
    pictures, captions = pictures.double(), captions.double()
    scores = captions @ pictures.T
    of_texts = [int((score > score[p]).sum()) + 1 for score, p in zip(scores, picture, strict=True)]
    of_pictures = []
    for number, score in enumerate(scores.T):
        of_pictures.append(int((score > score[picture == number].max()).sum()) + 1)
    assert found["text_to_image_median_rank"] == np.median(of_texts) > 1
    assert found["image_to_text_median_rank"] == np.median(of_pictures)
    every = np.array(of_texts + of_pictures)
    assert found["mean_reciprocal_rank"] == pytest.approx((1 / every).mean(), abs=1e-9)


def test_captions_of_a_list_cell_are_queries_of_their_own(flickr):
    pictures, captions, picture = flickr
    vectors, concept, items = rows_of(flickr)
    place = torch.zeros_like(picture)
    for number in range(PICTURES):
        place[picture == number] = torch.arange(CAPTIONS)
    alone = Captions(captions, items["text"], picture, place)
    joined = {"image": pictures, "text": torch.zeros(PICTURES, 32)}
    whole = retrieval_metrics(
        joined,
        torch.arange(PICTURES),
        items={"image": torch.arange(PICTURES), "text": torch.arange(PICTURES) + 10**6},
        captions={"text": alone},
    )
    assert whole == pytest.approx(retrieval_metrics(vectors, concept, items=items), abs=1e-9)


def plain(vectors, concept, items):
    """Return the rank of the first relevant candidate of each query, a loop over items; without ties."""
    found = {}
    for query, key in permutations(vectors, 2):
        own, other = items[query].tolist(), items[key].tolist()
        found[query, key] = []
        for one in dict.fromkeys(own):
            mine = [row for row, item in enumerate(own) if item == one]
            same = {int(concept[row]) for row in mine}
            right = {other[row] for row in range(len(other)) if own[row] == one or int(concept[row]) in same}
            score = {item: float(vectors[query][mine[0]] @ vectors[key][other.index(item)]) for item in other}
            order = sorted(score, key=score.get, reverse=True)
            found[query, key].append(1 + min(order.index(item) for item in right))
    return found


@pytest.mark.parametrize("stated", [True, False])
def test_items_shared_by_rows_agree_with_a_plain_loop(stated):
    generator = torch.Generator().manual_seed(1)
    picture, text, sound = (torch.randint(9, (40,), generator=generator) for _ in range(3))
    concept = torch.randint(12, (40,), generator=generator) if stated else torch.arange(40)
    items = {"image": picture, "text": text, "audio": sound}
    vectors = {name: F.normalize(torch.randn(9, 4, generator=generator), dim=1)[own] for name, own in items.items()}
    found = retrieval_metrics(vectors, concept, items=items)
    for (query, key), rank in plain(vectors, concept, items).items():
        for k in (1, 5):
            assert found[f"{query}_to_{key}_r{k}"] == pytest.approx(np.mean(np.array(rank) <= k))
        assert found[f"{query}_to_{key}_median_rank"] == np.median(rank)
        assert found[f"{query}_to_{key}_candidates"] == len(items[key].unique())


def test_one_text_of_every_picture_makes_no_other_caption_right():
    # Each picture has a caption of its own and, in a row of its own, one that all share.
    count, generator = 64, torch.Generator().manual_seed(0)
    pictures = torch.randn(count, 8, generator=generator)
    texts = torch.randn(count + 1, 8, generator=generator)
    item = torch.cat([torch.arange(count), torch.full((count,), count)])
    vectors = {"image": pictures.repeat(2, 1), "text": texts[item]}
    found = retrieval_metrics(
        vectors, torch.arange(2 * count), items={"image": torch.arange(count).repeat(2), "text": item}
    )
    assert found["text_to_image_candidates"] == count and found["image_to_text_candidates"] == count + 1
    # The shared text is one query of 65, right whatever is found; the others are at chance.
    assert found["text_to_image_r1_chance"] == pytest.approx((1 + count / count) / (count + 1))
    assert found["text_to_image_r1"] < 0.15
    assert found["image_to_text_r1_chance"] == pytest.approx(2 / (count + 1))


def test_directions_in_which_no_answer_could_be_wrong_are_left_out():
    vectors = {name: torch.randn(8, 4, generator=torch.Generator().manual_seed(0)) for name in ("image", "text")}
    same = {"image": torch.arange(8), "text": torch.zeros(8, dtype=torch.long)}
    assert retrieval_metrics(vectors, torch.arange(8), items=same) == {}
    assert retrieval_metrics(vectors, torch.zeros(8, dtype=torch.long)) == {}
    assert retrieval_metrics({name: one[:1] for name, one in vectors.items()}, torch.arange(1)) == {}


def test_rank_of_the_first_relevant_candidate():
    queries, keys = torch.eye(3), torch.eye(3)[[1, 0, 2]]
    assert ranks(queries, keys, lambda rows: torch.eye(3).bool()[rows]).expected().tolist() == [2.5, 2.5, 1.0]
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()
    assert ranks(queries, keys, lambda rows: same[rows]).expected().tolist() == [1.0, 1.0, 1.0]


def test_equal_scores_count_as_the_mean_over_all_orders():
    generator = torch.Generator().manual_seed(0)
    score = torch.randint(3, (5, 6), generator=generator).float()
    relevant = torch.rand(5, 6, generator=generator) < 0.4
    relevant[:, 0] = True
    found = ranks(score, torch.eye(6), lambda rows: relevant[rows])
    precision = average_precision(score, torch.eye(6), lambda rows: relevant[rows])
    for query in range(5):
        first, averaged = [], []
        for order in permutations(range(6)):
            listed = sorted(order, key=lambda one, q=query: -score[q, one].item())
            hits = [place + 1 for place, one in enumerate(listed) if relevant[query, one]]
            first.append(hits[0])
            averaged.append(np.mean([(n + 1) / hit for n, hit in enumerate(hits)]))
        first = np.array(first)
        assert found.expected()[query].item() == pytest.approx(first.mean())
        assert found.reciprocal()[query].item() == pytest.approx((1 / first).mean())
        assert precision[query].item() == pytest.approx(np.mean(averaged))
        for k in (1, 2, 5):
            assert found.recall(k)[query].item() == pytest.approx((first <= k).mean())


def test_average_precision_agrees_with_scikit_learn():
    from sklearn.metrics import average_precision_score

    generator = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(20, 8, generator=generator), torch.randn(50, 8, generator=generator)
    relevant = torch.rand(20, 50, generator=generator) < 0.2
    relevant[:, 0] = True
    found = average_precision(queries, keys, lambda rows: relevant[rows])
    theirs = [average_precision_score(r.numpy(), s.numpy()) for r, s in zip(relevant, queries @ keys.T, strict=True)]
    assert found.tolist() == pytest.approx(theirs, abs=1e-6)


def test_vectors_that_are_all_equal_are_at_chance():
    # Odd sizes, in which the columns of a matrix product are not all computed by the same code.
    vectors = {name: F.normalize(torch.full((203, 37), 0.3), dim=1) for name in ("image", "text")}
    found = retrieval_metrics(vectors, torch.arange(203) // 3)
    for k in (1, 5, 10):
        assert found[f"text_to_image_r{k}"] == pytest.approx(found[f"text_to_image_r{k}_chance"], abs=1e-12)
    # The first of 3 relevant ones among 203 stands at 204 / 4 on average.
    assert found["text_to_image_median_rank"] == pytest.approx(51.0)


def test_a_score_that_is_not_a_number_ranks_last():
    vectors = {"image": torch.full((20, 4), torch.nan), "text": torch.eye(20)[:, :4]}
    found = retrieval_metrics(vectors, torch.arange(20))
    for name in ("text_to_image", "image_to_text"):
        assert (found[f"{name}_r1"], found[f"{name}_r10"], found[f"{name}_median_rank"]) == (0, 0, 20)
    # Of one picture alone nothing is known: it is behind all others, and in no one's way.
    vectors = {"image": torch.eye(5), "text": torch.eye(5)}
    vectors["image"][2] = torch.nan
    found = retrieval_metrics(vectors, torch.arange(5))
    assert (found["text_to_image_r1"], found["image_to_text_r1"]) == (pytest.approx(0.8), pytest.approx(0.8))


def test_chance_of_guessing():
    for counts, k, expected in (([1], 1, 0.1), ([1], 10, 1.0), ([5], 1, 0.5), ([2], 2, 1 - 8 / 10 * 7 / 9)):
        assert chance(torch.tensor(counts), 10).recall(k).item() == pytest.approx(expected)
    # More drawn than there are.
    assert chance(torch.tensor([1]), 3).recall(10).item() == 1.0


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
