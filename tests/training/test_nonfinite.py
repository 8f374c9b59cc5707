"""A loss or gradient that is no number: told with step, term, rows and layers, or the step is left out."""

import csv
import json
from pathlib import Path

import pytest
import torch
from test_resume import train

from mmexp.objectives.contrastive import Contrastive
from mmexp.tasks.base import Task


def spoil(monkeypatch, step: int, how: str) -> None:
    """Let the numbers of one step go bad: the loss itself, or a gradient alone."""
    taken, forward = Task.training_step, Contrastive.forward
    now = {}

    def noting(task: Task, *arguments):
        now["bad"] = task.global_step == step
        return taken(task, *arguments)

    def bad(self, views):
        found = forward(self, views)
        if not now.get("bad"):
            return found
        losses, metrics = found.losses, found.metrics
        spoilt = {
            name: loss * float("nan") if how == "loss" else torch.sqrt((loss - loss).abs()) + loss
            for name, loss in losses.items()
        }
        return type(found)(spoilt, metrics)

    monkeypatch.setattr(Task, "training_step", noting)
    monkeypatch.setattr(Contrastive, "forward", bad)


@pytest.mark.parametrize(
    ("how", "told"),
    [("loss", "loss_contrastive is nan at step 4"), ("gradient", "the gradient is not finite at step 4")],
)
def test_it_ends_the_run_and_says_where(tmp_path, monkeypatch, capsys, how, told):
    monkeypatch.chdir(tmp_path)
    spoil(monkeypatch, 4, how)
    train(monkeypatch, "hydra.run.dir=run", "objective=contrastive", "fusion=none", "log_every_steps=3", expect=1)
    error = capsys.readouterr().err
    assert told in error and "Traceback" not in error
    assert "train rows " in error and "model.encoders." in error and "objectives.contrastive" in error
    record = json.loads(Path("run/run.json").read_text())
    assert record["status"] == "failed" and record["error"].startswith(told) and len(record["error"]) < 120
    assert record["steps"] == 4


def test_or_the_step_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    spoil(monkeypatch, 4, "gradient")
    more = ("objective=contrastive", "fusion=none", "trainer.on_nonfinite=skip", "log_every_steps=1")
    train(monkeypatch, "hydra.run.dir=run", *more)
    assert "step 4 was left out, its gradient is not finite: train rows" in capsys.readouterr().err
    weights = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    assert all(tensor.isfinite().all() for tensor in weights["state_dict"].values())
    assert weights["global_step"] == 21
    rows = csv.DictReader(Path("run/metrics.csv").read_text().splitlines())
    skipped = [row for row in rows if row.get("train/skipped")]
    assert len(skipped) == 1


def test_another_word_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    train(monkeypatch, "trainer.on_nonfinite=ignore", expect=2)
    assert "trainer.on_nonfinite" in capsys.readouterr().err
