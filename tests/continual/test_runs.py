"""Runs over tasks in sequence from the command line."""

import json
import os
import shutil
import sys
from math import isnan
from pathlib import Path

import pytest
import torch
from PIL import Image

from mmexp import cli
from mmexp.tasks.continual import ContinualTask

TESTS = Path(__file__).parents[1]
TINY = ("--config-dir", str(TESTS / "outside" / "conf"), "trust=[outside,stand_ins]", "encoder=tiny", "fusion=none")
RUN = ("task=continual", "objective=contrastive", "hardware.threads=1", "hardware.precision=32-true", "budget.steps=8")
METHODS = ("plain", "joint", "replay", "ewc", "lwf", "adapters")


@pytest.fixture
def train(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*overrides: str, expect: int = 0, data: str = "squares_sequence") -> Path:
        monkeypatch.setattr(sys, "argv", ["mmexp", "train", *TINY, f"data={data}", *RUN, *overrides])
        try:
            assert cli.main() == expect
        finally:
            os.environ.pop("MMEXP_STAMP", None)
        return tmp_path

    return run


def metrics(run: Path) -> dict[str, float]:
    return json.loads((run / "metrics.json").read_text())


def weights(run: Path) -> dict[str, torch.Tensor]:
    stored = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return {name: tensor for name, tensor in stored.items() if isinstance(tensor, torch.Tensor)}


def test_every_method_runs_and_tells_what_it_forgot(train, capsys):
    both = ("objective=[contrastive,classify]", "objective.classify.source=image", "log_every_steps=1")
    folder = train("-m", f"continual={','.join(METHODS)}", *both, "sweep.name=all")
    closing = capsys.readouterr().out
    assert "after second" in closing
    assert "forgetting" in closing.rpartition("report:")[2], "the sweep's table"
    for place, name in enumerate(METHODS):
        run = folder / "outputs" / "sweeps" / "all" / str(place)
        record, numbers = json.loads((run / "run.json").read_text()), metrics(run)
        assert (record["status"], record["samples_seen"]) == ("completed", 64), name
        assert ("continual/forgetting" in numbers) == (name != "joint")
        assert numbers["continual/average_accuracy"] == pytest.approx(
            (numbers["continual/after_2_first"] + numbers["continual/after_2_second"]) / 2
        )
        assert numbers["continual/after_2_second"] == numbers["second/mean_reciprocal_rank"]
        assert ("loss_ewc" in (run / "metrics.csv").read_text()) == (name == "ewc")
        assert ("loss_lwf" in (run / "metrics.csv").read_text()) == (name == "lwf")
        assert "Tasks in sequence" in (run / "report.html").read_text()


@pytest.mark.parametrize("method", ["ewc", "lwf", "adapters", "replay"])
def test_a_run_goes_on_from_any_step_of_any_task(train, method, monkeypatch):
    run = (f"continual={method}", "checkpoint.every_steps=1")
    folder = train(*run, "hydra.run.dir=whole")
    taken = ContinualTask.training_step
    for step in (4, 6):

        def dying(task, *arguments, last=step):
            if task.global_step == last:
                raise SystemExit(9)
            return taken(task, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(ContinualTask, "training_step", dying)
            with pytest.raises(SystemExit):
                train(*run, "hydra.run.dir=half")
        train(*run, "hydra.run.dir=half", "resume=auto")
        whole, half = weights(folder / "whole"), weights(folder / "half")
        assert all(torch.equal(tensor, half[name]) for name, tensor in whole.items()), step
        assert metrics(folder / "whole") == metrics(folder / "half"), step
        shutil.rmtree("half")


def test_weights_of_a_sequence_are_a_start_like_any_other(train):
    for method in ("ewc", "adapters"):
        train(f"continual={method}", "evaluate=false", f"hydra.run.dir={method}")
        train(
            "task=pretrain",
            "data=squares",
            "data.batch_size=8",
            f"init_from={method}",
            "budget.steps=1",
            "hydra.run.dir=next",
        )


def test_data_that_is_no_sequence_is_refused(train, capsys):
    train("continual=plain", "data=squares", expect=2)
    assert "this data is no sequence. Choose data=emoji_sequence" in capsys.readouterr().err


def test_adapters_for_each_task_are_refused_to_several_processes(train, capsys):
    train("continual=adapters", "hardware=ddp", "hardware.accelerator=cpu", "hardware.devices=2", expect=2)
    assert "works in one process alone" in capsys.readouterr().err


def test_what_no_row_of_a_tasks_evaluation_set_tells_is_not_known(train, tmp_path):
    for number in range(8):
        Image.new("RGB", (8, 8), (30 * number, 0, 0)).save(tmp_path / f"{number}.png")
    pictures = [f"{number}.png,thing {number}" for number in range(8)]
    sets = {"a": pictures, "b": pictures, "test_a": pictures, "test_b": [f",thing {number}" for number in range(8)]}
    for name, lines in sets.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(["image,caption", *lines]))
    tables = ("data.tables=[a.csv,b.csv]", "data.tests=[test_a.csv,test_b.csv]", "data.missing=keep")
    sizes = ("data.batch_size=8", "data.num_workers=0", "hydra.run.dir=run")
    train("continual=plain", *tables, *sizes, data="table_sequence")
    numbers = metrics(tmp_path / "run")
    assert numbers["continual/after_1_a"] > 0 and isnan(numbers["continual/after_1_b"])
    assert (tmp_path / "run" / "report.html").is_file()
