"""A trial without any finite value fails, and one that had some is pruned."""

from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch

from mmexp.pace import Pace
from mmexp.sweeps.pruning import Pruning
from mmexp.sweeps.search import Search


def validated(pruning: Any, step: int, value: float) -> Any:
    """Return the trainer after a validation of a run of 10 steps."""
    trainer: Any = SimpleNamespace(
        callback_metrics={"val/loss": torch.tensor(value)},
        strategy=SimpleNamespace(broadcast=lambda decision: decision),
        **{"global_step": step, "should_stop": False},
    )
    pruning.on_validation_end(trainer, SimpleNamespace(pace=Pace(10)))
    return trainer


@pytest.fixture
def pruning():
    settings = {"name": "s", "storage": "", "metric": "val/loss", "direction": "minimize", "pruner": "none"}
    callback = Pruning(Search(**settings, startup=5, first_check=0.1, factor=2), 0)
    callback._trial = optuna.create_study(pruner=optuna.pruners.NopPruner()).ask()
    return callback


@pytest.mark.parametrize("step", [4, 10])
def test_a_trial_that_never_had_a_finite_value_fails_with_the_reason(pruning, step):
    with pytest.raises(FloatingPointError, match=f"val/loss, by which this search compares, is inf at step {step}"):
        validated(pruning, step, float("inf"))
    assert pruning.stopped is None


def test_a_trial_that_had_one_is_pruned(pruning):
    assert not validated(pruning, 2, 0.5).should_stop
    assert validated(pruning, 4, float("nan")).should_stop
    assert pruning.stopped == "pruned at step 4: val/loss nan"
