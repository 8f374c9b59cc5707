"""A run that goes on from any step ends as the one that was never interrupted."""

import csv
import json
import os
import shutil
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from mmexp import cli
from mmexp.tasks.base import Task

OUTSIDE = str(Path(__file__).parents[1] / "outside" / "conf")
# Eight steps an epoch, validations every seven: steps of all kinds.
RUN = (
    "--config-dir",
    OUTSIDE,
    "trust=[outside,stand_ins]",
    "encoder=tiny",
    "data=squares",
    "fusion=added",
    "data.batch_size=4",
    "budget.steps=21",
)
RUN += ("hardware.threads=1", "hardware.precision=32-true", "log_every_steps=3", "checkpoint.every_steps=2")


def train(monkeypatch, *overrides: str, expect: int = 0) -> None:
    monkeypatch.setattr(sys, "argv", ["mmexp", "train", *RUN, *overrides])
    monkeypatch.setenv("MMEXP_STAMP", "now")
    assert cli.main() == expect


def left_by(run: Path) -> tuple[dict, dict, list]:
    """Return the last checkpoint, the final numbers and the history of a run."""
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader((run / "metrics.csv").open())]
    return state, json.loads((run / "metrics.json").read_text()), rows


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def train_until(monkeypatch, step: int, *overrides: str) -> None:
    """Train, and die in the middle of a step."""
    taken = Task.training_step

    def dying(task: Task, *arguments):
        if task.global_step == step:
            raise SystemExit(9)
        return taken(task, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Task, "training_step", dying)
        with pytest.raises(SystemExit):
            train(monkeypatch, *overrides)


# Words and patches are dropped by random numbers of the step.
DROPPING = (
    *(
        "encoder.text._target_=mmexp.encoders.recurrent.Recurrent",
        "+encoder.text.kind=gru",
        "+encoder.text.dropout=0.5",
    ),
    *(
        "encoder.image._target_=mmexp.encoders.timm_image.TimmImage",
        "+encoder.image.name=test_vit",
        "~encoder.image.dim",
    ),
    *("+encoder.image.image_size=64", "+encoder.image.patch_dropout=0.5", "+encoder.image.positions=rotary"),
)


@pytest.mark.parametrize(
    ("workers", "steps", "more"), [(0, (1, 7, 8, 9, 13, 20), ()), (2, (12,), ()), (0, (9,), DROPPING)]
)
def test_a_run_goes_on_from_any_step(tmp_path, monkeypatch, workers, steps, more):
    monkeypatch.chdir(tmp_path)
    common = (f"data.num_workers={workers}", "checkpoint.validate_every_epochs=1", "hydra.run.dir=run", *more)
    train(monkeypatch, *common)
    whole = left_by(Path("run").rename("whole"))
    for step in steps:
        train_until(monkeypatch, step, *common)
        train(monkeypatch, *common, "resume=auto")
        resumed = left_by(Path("run"))
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
            assert same(whole[0][part], resumed[0][part]), (step, part)
        assert resumed[1] == whole[1], step
        assert resumed[2] == whole[2], step
        shutil.rmtree("run")


@pytest.mark.parametrize("optimizer", ["lion", "muon"])
def test_so_does_one_with_another_optimizer_by_some_rows_at_a_time(tmp_path, monkeypatch, optimizer):
    monkeypatch.chdir(tmp_path)
    common = ("hydra.run.dir=run", f"optimizer={optimizer}", "optimizer.layer_decay=0.7", "optimizer.clip_norm=0.5")
    common += ("hardware.micro_batch_size=3",)
    train(monkeypatch, *common)
    whole = left_by(Path("run").rename("whole"))
    train_until(monkeypatch, 9, *common)
    train(monkeypatch, *common, "resume=auto")
    resumed = left_by(Path("run"))
    assert all(same(whole[0][part], resumed[0][part]) for part in ("state_dict", "optimizer_states"))
    assert resumed[1:] == whole[1:]


def test_checkpoints_of_steps_stay_as_many_as_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(monkeypatch, "hydra.run.dir=run", "checkpoint.every_steps=4", "checkpoint.keep=2", "evaluate=false")
    left = {path.name: path for path in Path("run/checkpoints").iterdir()}
    assert set(left) == {"best.ckpt", "last.ckpt", "previous.ckpt", "step-16.ckpt", "step-20.ckpt"}
    steps = {name: torch.load(path, weights_only=True)["global_step"] for name, path in left.items()}
    assert (steps["step-16.ckpt"], steps["step-20.ckpt"], steps["last.ckpt"]) == (16, 20, 21)


def test_a_signal_at_a_logged_step_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ("hydra.run.dir=run", "log_every_steps=1")
    train(monkeypatch, *common)
    whole, taken = left_by(Path("run").rename("whole")), Task.training_step

    def signalled(task: Task, *arguments):
        if task.global_step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return taken(task, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Task, "training_step", signalled)
        train(monkeypatch, *common, expect=143)
    assert json.loads(Path("run/run.json").read_text())["status"] == "interrupted"
    train(monkeypatch, *common, "resume=auto")
    assert left_by(Path("run"))[1:] == whole[1:]


@pytest.mark.parametrize(("how", "status"), [(KeyboardInterrupt, 130), (SystemExit, None)])
def test_one_that_ended_early_and_is_interrupted_while_it_is_measured_trains_no_further(
    tmp_path, monkeypatch, how, status
):
    monkeypatch.chdir(tmp_path)
    # No validation is better by a whole: the second ends the training.
    early = ("early_stopping.patience=1", "early_stopping.min_delta=1", "checkpoint.validate_every_epochs=1")
    early += ("hydra.run.dir=run",)
    train(monkeypatch, *early)
    whole = left_by(Path("run").rename("whole"))
    assert whole[0]["global_step"] < 21

    def interrupted(task: Task) -> None:
        raise how(1)

    with monkeypatch.context() as patched:
        patched.setattr(Task, "on_test_epoch_start", interrupted)
        with nullcontext() if status else pytest.raises(SystemExit):
            train(monkeypatch, *early, expect=status or 0)
    assert json.loads(Path("run/run.json").read_text())["status"] == "interrupted"
    train(monkeypatch, *early, "resume=auto")
    assert same(left_by(Path("run"))[0]["state_dict"], whole[0]["state_dict"])
    assert left_by(Path("run"))[1:] == whole[1:]
