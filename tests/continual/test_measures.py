"""What accuracies after each task come to, against matrices worked out by hand."""

import numpy as np
import pytest

from mmexp.continual.measures import summary

AFTER = np.array([[0.8, 0.2, 0.1], [0.9, 0.7, 0.3], [0.5, 0.6, 0.9]])
UNTRAINED = np.array([0.1, 0.1, 0.2])


def test_forgetting_and_transfer_of_three_tasks():
    numbers = summary(AFTER, UNTRAINED)
    assert numbers["average_accuracy"] == pytest.approx((0.5 + 0.6 + 0.9) / 3)
    # From the best that a task ever had: the first one rose to 0.9 with the second.
    assert numbers["forgetting"] == pytest.approx(((0.9 - 0.5) + (0.7 - 0.6)) / 2)
    assert numbers["backward_transfer"] == pytest.approx(((0.5 - 0.8) + (0.6 - 0.7)) / 2)
    assert numbers["forward_transfer"] == pytest.approx(((0.2 - 0.1) + (0.3 - 0.2)) / 2)


def test_a_run_that_ended_early_is_told_of_its_own_tasks():
    numbers = summary(AFTER[:2], UNTRAINED)
    assert numbers == pytest.approx(
        {"average_accuracy": 0.8, "forgetting": -0.1, "backward_transfer": 0.1, "forward_transfer": 0.1}
    )
    assert summary(AFTER[:1], UNTRAINED) == {"average_accuracy": 0.8}
