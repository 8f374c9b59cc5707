"""Numbers of evaluation sets whose rows lack modalities are those of the rows that have them."""

import pytest
import torch
from torch.nn import functional as F

from mmexp.tasks.captions import caption_metrics
from mmexp.tasks.evaluation import Gathered, classification_metrics, multilabel_metrics, regression_metrics
from mmexp.tasks.neighbours import neighbour_metrics
from mmexp.tasks.retrieval import retrieval_metrics
from mmexp.tasks.zero_shot import zero_shot_metrics

GENERATOR = torch.Generator().manual_seed(0)
VECTORS = {name: F.normalize(torch.randn(40, 6, generator=GENERATOR), dim=-1) for name in ("audio", "image", "text")}
CONCEPT, LABEL = torch.arange(40) // 2, torch.arange(40) % 3
PRESENT = {"image": torch.arange(40) % 4 > 0, "audio": torch.arange(40) > 29}


def rows(names, tensors):
    there = torch.stack([PRESENT.get(name, torch.ones(40, dtype=torch.bool)) for name in names]).all(0)
    return {name: tensor[there] for name, tensor in tensors.items()}


def test_retrieval_is_among_rows_that_have_both():
    found = retrieval_metrics(VECTORS, CONCEPT, PRESENT)
    for query, key in (("image", "text"), ("audio", "image"), ("text", "audio")):
        both = rows((query, key), {**VECTORS, "concept": CONCEPT})
        alone = retrieval_metrics({query: both[query], key: both[key]}, both["concept"])
        front = f"{query}_to_{key}"
        assert {n: v for n, v in found.items() if n.startswith(f"{front}_")} == {
            n: v for n, v in alone.items() if n.startswith(f"{front}_")
        }
        assert found[f"{front}_candidates"] == len(both["concept"])
    assert found["candidates"] == 30


def test_a_direction_that_no_row_has_is_left_out():
    nobody = {"image": torch.zeros(40, dtype=torch.bool)}
    assert {n.split("_r")[0] for n in retrieval_metrics(VECTORS, CONCEPT, nobody) if n.endswith("_r1")} == {
        "audio_to_text",
        "text_to_audio",
    }
    assert retrieval_metrics({n: VECTORS[n] for n in ("image", "text")}, CONCEPT, nobody) == {}
    assert neighbour_metrics({"image": VECTORS["image"]}, CONCEPT, LABEL, nobody) == {}
    assert zero_shot_metrics({n: VECTORS[n] for n in ("image", "text")}, torch.randn(3, 6), LABEL, nobody) == {}


def test_neighbours_and_classes_are_of_rows_that_have_it():
    there = rows(["image"], {"vectors": VECTORS["image"], "concept": CONCEPT, "label": LABEL})
    alone = neighbour_metrics({"image": there["vectors"]}, there["concept"], there["label"])
    assert neighbour_metrics({"image": VECTORS["image"]}, CONCEPT, LABEL, PRESENT) == alone
    classes = VECTORS["text"][:3]
    both = {"image": VECTORS["image"], "text": VECTORS["text"]}
    asked = zero_shot_metrics({n: v[PRESENT["image"]] for n, v in both.items()}, classes, there["label"])
    assert zero_shot_metrics(both, classes, LABEL, PRESENT) == asked


def test_what_was_not_said_of_a_row_does_not_count():
    logits, unsaid = torch.randn(40, 3, generator=GENERATOR), ~PRESENT["image"]
    holes = logits.masked_fill(unsaid[:, None], torch.nan)
    assert classification_metrics(holes, LABEL) == classification_metrics(logits[~unsaid], LABEL[~unsaid])
    targets = (logits + 0.5 * torch.randn(40, 3, generator=GENERATOR) > 0).float()
    assert multilabel_metrics(holes, targets) == multilabel_metrics(logits[~unsaid], targets[~unsaid])
    number = logits[:, 1] + 1
    told = regression_metrics(holes[:, 0], number)
    assert told == pytest.approx(regression_metrics(logits[~unsaid, 0], number[~unsaid]))
    nothing = torch.full((40, 3), torch.nan)
    assert classification_metrics(nothing, LABEL) == multilabel_metrics(nothing, targets) == {}
    of_unlabelled = logits[:2].clone()
    of_unlabelled[1] = torch.nan
    assert classification_metrics(of_unlabelled, torch.tensor([-1, 0])) == {}
    untold = {"caption_tokens": torch.zeros(40), "caption_nll": torch.zeros(40), "caption": torch.full((40, 3), -1)}
    assert caption_metrics(untold, lambda ids: [], []) == {}


def test_a_batch_of_which_nothing_is_known_weighs_nothing():
    gathered, row = Gathered(), torch.arange(2)
    for start, loss in ((0, 1.0), (2, torch.nan), (4, 4.0)):
        tensors = {"index": row + start, "concept": row, "label": row - 5}
        scalars = {"loss": torch.tensor(loss), "never": torch.tensor(torch.nan)}
        gathered.add(scalars, tensors, 2 if start < 4 else 1)
    assert gathered.metrics() == {"loss": pytest.approx(2.0)}


def test_the_sum_of_the_losses_is_left_out_where_one_of_them_is_unknown():
    row = {"index": torch.arange(2), "concept": torch.arange(2), "label": torch.zeros(2, dtype=torch.long)}
    weights = {"loss_classify": 1.0, "loss_matching": 2.0}
    for matching, expected in ((0.25, 1.5), (torch.nan, None)):
        gathered = Gathered()
        # Its mean of batches, which leaves out those of which it is unknown, is not the sum either.
        for total in (torch.nan, 1.0):
            scalars = {"loss_classify": 1.0, "loss_matching": matching, "loss": total}
            gathered.add({name: torch.tensor(value) for name, value in scalars.items()}, row, 2, given=weights)
        assert gathered.metrics().get("loss") == (expected and pytest.approx(expected))
