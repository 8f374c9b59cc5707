"""What is asked of a run that goes on is compared with what its checkpoint was made by."""

import csv
import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from mmexp import cli
from mmexp.resume_check import differences
from mmexp.tasks.base import Task

OUTSIDE = str(Path(__file__).parents[1] / "outside" / "conf")
RUN = ("--config-dir", OUTSIDE, "trust=[outside,stand_ins]", "encoder=tiny", "data=squares", "fusion=added")
RUN += ("data.batch_size=4", "hardware.threads=1", "hardware.precision=32-true", "log_every_steps=1", "evaluate=false")
RUN += ("checkpoint.validate_every_steps=4", "hydra.run.dir=run")


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*overrides: str, expect: int = 0) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["mmexp", "train", *RUN, *overrides])
        monkeypatch.setenv("MMEXP_STAMP", "now")
        status = cli.main()
        out, err = capsys.readouterr()
        assert status == expect, err
        return out, err

    return run


def history() -> list[dict[str, str]]:
    with Path("run/metrics.csv").open() as stream:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(stream)]


def rates() -> dict[int, float]:
    return {int(r["step"]): float(r["train/learning_rate"]) for r in history() if "train/learning_rate" in r}


def validated() -> list[int]:
    return [int(row["step"]) for row in history() if "val/loss" in row]


def test_other_settings_are_refused_by_name_and_those_allowed_apply(train):
    train("budget.steps=4", "schedule=constant", "optimizer.lr=1e-3")
    other = ("budget.steps=6", "schedule=constant", "optimizer.lr=1e-5", "optimizer.weight_decay=0.5", "resume=auto")
    _, err = train(*other, expect=2)
    assert "optimizer.lr=0.001, now 1e-05" in err and "optimizer.weight_decay=0.05, now 0.5" in err
    assert "hydra.run.dir" in err and "resume.allow=[optimizer.lr,optimizer.weight_decay]" in err
    assert "1e-05" not in Path("run/config.yaml").read_text()
    out, _ = train(*other, "resume.allow=[optimizer]")
    assert "changed: optimizer.lr 0.001 -> 1e-05" in out
    assert rates() == pytest.approx({0: 1e-3, 1: 1e-3, 2: 1e-3, 3: 1e-3, 4: 1e-5, 5: 1e-5})
    groups = torch.load("run/checkpoints/last.ckpt", weights_only=True)["optimizer_states"][0]["param_groups"]
    assert {group["weight_decay"] for group in groups} == {0.5, 0.0}


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("optimizer=sgd", "optimizer=adamw, now sgd"),
        ("data.batch_size=8", "data.batch_size=4, now 8"),
        ("encoder.image.dim=8", "encoder.image.dim=16, now 8"),
    ],
)
def test_what_no_checkpoint_can_go_on_with_is_refused_even_where_it_is_allowed(train, override, named):
    train("budget.steps=2")
    for more in ((), ("resume.allow=[optimizer,data.batch_size,encoder]",)):
        _, err = train("budget.steps=2", override, "resume=auto", *more, expect=2)
        assert named in err and "cannot change within a run" in err and "resume.allow" not in err
    _, err = train("budget.steps=2", "resume=auto", "resume.allow=[optimizer.lrr]", expect=2)
    assert "Did you mean 'optimizer.lr'?" in err


def test_a_larger_budget_goes_on_by_the_schedule_of_the_new_length(train):
    train("budget.steps=16")
    whole, steps = rates(), validated()
    assert steps == [3, 7, 11, 15]
    Path("run").rename("whole")
    train("budget.steps=12")
    out, _ = train("budget.steps=16", "resume=auto")
    assert "12 -> 16 steps" in out and "the new length" in out
    assert validated() == steps
    assert [rates()[step] for step in range(12, 16)] == pytest.approx([whole[step] for step in range(12, 16)])
    _, err = train("budget.steps=5", "resume=auto", expect=2)
    assert "ends at step 5" in err and "is at step 16" in err


def test_a_run_that_is_ended_at_a_validation_keeps_its_row(train, monkeypatch):
    def signalled(task: Task) -> None:
        if task.global_step == 8:
            os.kill(os.getpid(), signal.SIGTERM)
        validate(task)

    validate = Task.on_validation_epoch_start
    with monkeypatch.context() as patched:
        patched.setattr(Task, "on_validation_epoch_start", signalled)
        train("budget.steps=12", expect=143)
    assert json.loads(Path("run/run.json").read_text())["steps"] == 8
    train("budget.steps=12", "resume=auto")
    assert validated() == [3, 7, 11]


def test_of_a_part_that_is_another_one_its_keys_are_not_named():
    before = {"optimizer": {"_target_": "a.adamw", "lr": 1.0, "betas": [1]}, "seed": 0, "name": "a", "resume": None}
    now = {"optimizer": {"_target_": "a.sgd", "lr": 2.0, "momentum": 1}, "seed": 0, "name": "b", "resume": "auto"}
    assert differences(before, now, ["optimizer"]) == {"optimizer._target_": ("a.adamw", "a.sgd")}
    assert differences(before, before | {"seed": 1, "evaluate": False}) == {"seed": (0, 1)}
    newer = before | {"average": {"decay": 0.9}}
    assert differences(before, newer) == {}
    assert differences(before, newer, ["average.decay"]) == {"average.decay": (None, 0.9)}
