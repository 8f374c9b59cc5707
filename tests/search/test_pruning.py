"""A run that is a trial: what it reports, when it stops, and that others do not care."""

import json
from pathlib import Path

import lightning as L
import optuna
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel

from mmexp.errors import RequestError
from mmexp.pace import Pace
from mmexp.sweeps.pruning import Pruning, pruned, pruning
from mmexp.sweeps.study import open_study
from search.searches import asked


class Scored(BoringModel):
    """Scores `level` at each validation."""

    def __init__(self, level: float, metric: str = "val/score"):
        super().__init__()
        self.pace = Pace(8)
        self.level, self.metric = level, metric

    def on_validation_epoch_end(self):
        self.log(self.metric, self.level)


def rows() -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(torch.randn(8, 32))


def trained(callbacks: list, model: Scored) -> L.Trainer:
    trainer = L.Trainer(
        max_steps=8,
        val_check_interval=2,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        callbacks=callbacks,
    )
    trainer.fit(model, rows(), rows())
    return trainer


@pytest.fixture
def study(tmp_path) -> optuna.Study:
    """Return a study in which one trial scored 1 throughout, and another is to run as number 1."""
    study = open_study(asked(tmp_path, pruner="median", startup=1))
    first = study.ask()
    for done in (25, 50, 75, 100):
        first.report(1.0, done)
    study.tell(first, 1.0)
    study.ask()
    return study


def test_a_run_that_falls_behind_stops_after_the_validation(tmp_path, study):
    trainer = trained([Pruning(asked(tmp_path, "median", startup=1), 1)], Scored(0.5))
    assert trainer.global_step == 2
    assert pruned(trainer) == "pruned at step 2: val/score 0.5"
    assert study.trials[1].intermediate_values == {25: 0.5}
    assert study.trials[1].user_attrs["steps"] == [2, 8]


def test_a_run_that_leads_goes_to_its_end_and_tells_all(tmp_path, study):
    trainer = trained([Pruning(asked(tmp_path, "median", startup=1), 1)], Scored(2.0))
    assert trainer.global_step == 8
    assert pruned(trainer) is None
    assert study.trials[1].intermediate_values == dict.fromkeys((25, 50, 75, 100), 2.0)


def test_nothing_is_pruned_before_the_first_check(tmp_path, study):
    trainer = trained([Pruning(asked(tmp_path, "median", startup=1, first_check=0.4), 1)], Scored(0.5))
    assert trainer.global_step == 4


def test_what_is_not_a_number_is_not_gone_on_with(tmp_path, study):
    with pytest.raises(FloatingPointError, match="val/score, by which this search compares, is nan at step 2"):
        trained([Pruning(asked(tmp_path), 1)], Scored(float("nan")))


def test_a_trial_that_goes_on_does_not_report_twice(tmp_path, study):
    trained([Pruning(asked(tmp_path), 1)], Scored(2.0))
    trained([Pruning(asked(tmp_path), 1)], Scored(3.0))
    assert set(study.trials[1].intermediate_values.values()) == {2.0}


def test_a_trial_that_is_over_may_be_repeated_by_hand(tmp_path, study):
    study.tell(1, 5.0)
    assert trained([Pruning(asked(tmp_path, "median", startup=1), 1)], Scored(0.5)).global_step == 8
    assert study.trials[1].value == 5.0


def test_a_metric_that_is_not_measured_is_named(tmp_path, study):
    with pytest.raises(RequestError, match=r"'val/score', by which .* Did you mean 'val/scores'\?"):
        trained([Pruning(asked(tmp_path), 1)], Scored(1.0, "val/scores"))


def test_only_runs_of_a_search_report(tmp_path):
    run = tmp_path / "3"
    assert pruning(run) == []
    told = {"sweeper": "grid", "runs": []}
    Path(tmp_path / "sweep.json").write_text(json.dumps(told))
    assert pruning(run) == []
    Path(tmp_path / "sweep.json").write_text(json.dumps(told | {"search": asked(tmp_path).told()}))
    (found,) = pruning(run)
    assert found.number == 3
    assert pruning(tmp_path / "other") == []
