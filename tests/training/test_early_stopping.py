"""Why a run ended before its budget: reason, step and best value, on the screen and in `run.json`."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from mmexp.training.checkpoint import EarlyStopping, Patience, early_stop

OUTSIDE = str(Path(__file__).parents[1] / "outside" / "conf")


def validated(stopping: Any, step: int, value: float, decision: bool | None = None) -> Any:
    """Return the trainer after a validation whose metric was `value`."""
    strategy = SimpleNamespace(reduce_boolean_decision=lambda stops, all: stops)
    trainer: Any = SimpleNamespace(
        state=SimpleNamespace(fn=TrainerFn.FITTING),
        **{"sanity_checking": False, "fast_dev_run": False, "should_stop": False, "current_epoch": 0},
        **{"global_step": step, "strategy": strategy, "callbacks": [stopping], "val_check_interval": 4},
        callback_metrics={"val/loss": torch.tensor(value)},
    )
    stopping.setup(trainer, None, "fit")
    stopping.on_validation_end(trainer, None)
    return trainer


def test_a_metric_that_is_not_finite_is_told_as_such():
    (stopping,) = EarlyStopping(patience=5).callbacks("val/loss", "min")
    assert early_stop(validated(stopping, 2, 0.5)) is None
    trainer = validated(stopping, 4, float("inf"))
    assert trainer.should_stop and early_stop(trainer) is stopping
    assert stopping.told(4) == "early stopping at step 4: val/loss is inf, which is not finite; best 0.5 at step 2"
    assert stopping.facts(4) == {
        **{"reason": "non_finite_metric", "metric": "val/loss", "step": 4},
        **{"last": float("inf"), "best": 0.5, "best_step": 2},
    }
    (again,) = EarlyStopping(patience=5).callbacks("val/loss", "min")
    again.load_state_dict(stopping.state_dict())
    assert again.stopped and again.told(4) == stopping.told(4)


def test_a_larger_patience_trains_on_where_it_is_resumed():
    (stopping,) = EarlyStopping(patience=1).callbacks("val/loss", "min")
    for step, value in ((2, 0.5), (4, 0.6)):
        validated(stopping, step, value)
    (again,) = EarlyStopping(patience=3).callbacks("val/loss", "min")
    again.load_state_dict(stopping.state_dict())
    assert stopping.stopped and not again.stopped and again.patience == 3


def test_an_early_stop_is_told_on_the_screen_and_in_the_record(mmexp):
    run = ("--config-dir", OUTSIDE, "trust=[outside,stand_ins]", "encoder=tiny", "data=squares", "fusion=added")
    run += (
        "data.batch_size=4",
        "hardware.threads=1",
        "hardware.precision=32-true",
        "budget.steps=20",
        "evaluate=false",
    )
    early = ("early_stopping.patience=1", "early_stopping.min_delta=10", "checkpoint.validate_every_steps=3")
    status, out, err = mmexp("train", *run, *early, "checkpoint.monitor=val/loss", "hydra.run.dir=run")
    assert status == 0, err
    record = json.loads(Path("run/run.json").read_text())
    found = record["early_stopping"]
    assert (found["reason"], found["step"], found["best_step"]) == ("patience_exhausted", 6, 3)
    assert record["stopped"] in out and "for 1 validation; best" in record["stopped"]
    assert found["best"] == pytest.approx(found["last"], abs=10)
    assert isinstance(Patience("val/loss").told(1), str)
