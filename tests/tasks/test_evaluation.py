"""Metrics of a whole evaluation set against their definitions."""

import pytest
import torch

from mmexp.tasks.evaluation import multilabel_metrics, regression_metrics
from mmexp.tasks.neighbours import neighbour_accuracy, neighbour_metrics


def average_precision(score: torch.Tensor, right: torch.Tensor) -> float:
    """The mean over right rows of the precision down to each, as scikit-learn's (without ties)."""
    ranked = right[score.argsort(descending=True)].float()
    precision = ranked.cumsum(0) / torch.arange(1, len(ranked) + 1)
    return (precision * ranked).sum().item() / ranked.sum().item()


def test_multilabel_metrics_are_over_known_targets_and_classes_that_are_there():
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(40, 4, generator=generator), torch.randint(2, (40, 4), generator=generator).float()
    targets[:, 3] = 0
    targets[:5], targets[5:9, 0] = torch.nan, 0.5
    known = [slice(9, None), slice(5, None), slice(5, None)]
    precision = [average_precision(logits[rows, c], targets[rows, c] > 0.5) for c, rows in enumerate(known)]
    found = multilabel_metrics(logits, targets)
    assert found["mean_average_precision"] == pytest.approx(sum(precision) / 3, abs=1e-6)
    f1 = []
    for c, rows in enumerate(known):
        said, right = logits[rows, c] > 0, targets[rows, c] > 0.5
        f1.append(2 * (said & right).sum().item() / (said.sum() + right.sum()).item())
    assert found["f1_macro"] == pytest.approx(sum(f1) / 3, abs=1e-6)


def test_regression_metrics_are_over_rows_with_a_number():
    estimates, number = torch.tensor([1.0, 2.0, 5.0, 9.0]), torch.tensor([1.0, 4.0, 4.0, torch.nan])
    found = regression_metrics(estimates, number)
    assert found == pytest.approx({"mean_absolute_error": 1.0, "r2": 1 - 5 / 6})


def test_one_class_alone_and_nothing_known():
    logits, targets = torch.tensor([[2.0], [-1.0], [1.0]]), torch.tensor([[1.0], [0.0], [0.0]])
    assert multilabel_metrics(logits, targets) == pytest.approx({"mean_average_precision": 1.0, "f1_macro": 2 / 3})
    assert multilabel_metrics(logits, torch.full((3, 1), torch.nan)) == {}
    # One row has an error, and no variance that R² could be a share of.
    one = regression_metrics(torch.ones(3), torch.tensor([1.5, torch.nan, torch.nan]))
    assert one == {"mean_absolute_error": 0.5}
    assert regression_metrics(torch.ones(3), torch.full((3,), torch.nan)) == {}


def test_the_nearest_row_of_another_concept_tells_the_label():
    angle = torch.tensor([0.0, 0.01, 0.2, 1.0, 1.1, 2.0])
    pooled = torch.stack([angle.cos(), angle.sin()], 1) * torch.tensor([[1.0], [9.0], [2.0], [1.0], [1.0], [1.0]])
    concept, label = torch.tensor([0, 0, 1, 2, 3, 4]), torch.tensor([0, 0, 0, 1, 0, -1])
    # Rows 0 and 1 find 2, and 2 finds 1; 3 and 4 find each other, of another label; row 5 has none.
    assert neighbour_metrics({"image": pooled}, concept, label) == {"image_neighbour_accuracy": pytest.approx(3 / 5)}
    assert neighbour_metrics({"image": pooled}, concept, torch.full((6,), -1)) == {}


def test_rows_that_hold_the_same_item_are_no_neighbours():
    # Rows 0 and 1 are one picture of two concepts, as of two questions; the nearest other picture has another label.
    pooled = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    concept, label, item = torch.arange(4), torch.tensor([0, 0, 1, 1]), torch.tensor([5, 5, 6, 7])
    assert neighbour_accuracy(pooled, concept, label) == 3 / 4
    assert neighbour_accuracy(pooled, concept, label, item) == 1 / 4


def test_neighbours_that_are_equally_near_count_by_their_share():
    label = torch.arange(9) % 3
    assert neighbour_accuracy(torch.ones(9, 5), torch.arange(9), label) == pytest.approx(2 / 8)


def test_neighbours_agree_with_scikit_learn():
    from sklearn.model_selection import LeaveOneOut, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    pooled, label = torch.randn(60, 8, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
    nearest = KNeighborsClassifier(1, metric="cosine")
    theirs = cross_val_score(nearest, pooled.numpy(), label.numpy(), cv=LeaveOneOut()).mean()
    assert neighbour_accuracy(pooled, torch.arange(60), label) == pytest.approx(theirs)
