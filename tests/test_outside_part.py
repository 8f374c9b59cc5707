"""A new fusion, encoder and data set are one Python file and one YAML each, also from outside the package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
OUTSIDE = (
    "--config-dir",
    str(HERE / "outside" / "conf"),
    "trust=[outside,stand_ins]",
    "encoder=tiny",
    "data=squares",
    "fusion=added",
)


def train(tmp_path: Path, *overrides: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "mmexp", "train", *OUTSIDE, "hardware.precision=32-true", *overrides],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == expect, done.stderr
    return done


def test_a_run_leaves_what_the_contract_says(tmp_path):
    done = train(tmp_path, "budget.epochs=30", "optimizer.lr=0.01", "name=first", "logger=[csv,tensorboard,wandb]")
    (run,) = (tmp_path / "outputs" / "runs").iterdir()
    assert run.name.endswith("-first")
    for name in (
        "config.yaml",
        "metrics.json",
        "metrics.csv",
        "report.html",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    ):
        assert (run / name).stat().st_size, name
    assert list(run.glob("tensorboard/events*"))
    assert list(run.glob("wandb/offline-run-*"))
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "completed"
    assert record["error"] is None
    assert record["steps"] == 60
    assert record["samples_seen"] == 60 * 16
    assert record["parameters"]["total"] == record["parameters"]["trainable"] > 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test/candidates"] == 8
    assert metrics["test/text_to_image_r1"] > 2 * metrics["test/text_to_image_r1_chance"]
    assert str(run / "report.html") in done.stdout
    assert "Warning" not in done.stderr


def test_the_saved_configuration_repeats_the_run(tmp_path):
    train(tmp_path, "budget.steps=6", "hydra.run.dir=first")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "mmexp",
            "train",
            "--config-dir",
            "first",
            "--config-name",
            "config",
            "trust=[outside,stand_ins]",
            "hydra.run.dir=second",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])},
        check=True,
        capture_output=True,
    )
    first, second = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("first", "second"))
    assert first == second


def test_the_stages_of_a_model(tmp_path):
    train(tmp_path, "budget.steps=20", "hydra.run.dir=base", "name=base")
    train(tmp_path, "adapter=lora", "init_from=base", "task=finetune", "budget.steps=4", "hydra.run.dir=lora")
    record = json.loads((tmp_path / "lora" / "run.json").read_text())
    (parent,) = record["parents"]
    assert (parent["role"], parent["path"]) == ("init_from", str(tmp_path / "base"))
    assert record["parameters"]["trainable"] < record["parameters"]["total"]
    before = json.loads((tmp_path / "base" / "metrics.json").read_text())
    start = json.loads((tmp_path / "lora" / "metrics.json").read_text())
    for name in ("test/text_to_image_r1", "test/loss_contrastive"):
        assert abs(start[f"start/{name}"] - before[name]) < 1e-5, name
    student = (
        "task=distill",
        "objective=[distill,matching]",
        "teacher=lora",
        "budget.steps=4",
        "hydra.run.dir=student",
    )
    train(tmp_path, *student)
    metrics = json.loads((tmp_path / "student" / "metrics.json").read_text())
    assert metrics["test/loss_distill_embedding"] > 0
    # The teacher stays out of the student's checkpoint.
    import torch

    names = torch.load(tmp_path / "student" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert not [name for name in names if "teacher" in name]


def test_a_sweep_goes_on_after_a_failing_run(tmp_path):
    done = train(tmp_path, "-m", "fusion=added,none", "seed=0,1", "sweep.name=mine", "budget.steps=2", expect=1)
    sweep = tmp_path / "outputs" / "sweeps" / "mine"
    records = [json.loads((sweep / str(n) / "run.json").read_text()) for n in range(4)]
    assert [r["status"] for r in records] == ["completed", "completed", "failed", "failed"]
    assert "needs a fused output" in records[2]["error"]
    assert records[0]["sweep"] == "mine"
    assert "completed" in done.stdout and "failed" in done.stdout


@pytest.mark.parametrize("objective", ["contrastive", "[contrastive,caption]"])
def test_two_processes_do_as_one(tmp_path, objective):
    common = ("budget.steps=4", "fusion=none", f"objective={objective}")
    train(tmp_path, *common, "hydra.run.dir=one")
    ddp = ("hardware=ddp", "hardware.accelerator=cpu", "hardware.devices=2")
    train(tmp_path, *common, *ddp, "hydra.run.dir=two")
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    for name, value in one.items():
        assert abs(two[name] - value) < 1e-3, name


def test_two_processes_clip_average_and_encode_some_rows_at_a_time_as_one(tmp_path):
    habits = ("optimizer=muon", "optimizer.clip_norm=0.1", "average.decay=0.5", "log_every_steps=1")
    common = ("budget.steps=4", "fusion=none", "objective=contrastive", *habits)
    train(tmp_path, *common, "hydra.run.dir=one")
    ddp = ("hardware=ddp", "hardware.accelerator=cpu", "hardware.devices=2", "hardware.micro_batch_size=3")
    train(tmp_path, *common, *ddp, "hydra.run.dir=two")
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    for name, value in one.items():
        assert abs(two[name] - value) < 1e-3, name


def test_two_processes_share_what_a_teacher_said(tmp_path):
    train(tmp_path, "budget.steps=4", "fusion=none", "objective=contrastive", "hydra.run.dir=base")
    taught = ("task=distill", "teacher=base", "objective=distill", "fusion=none", "variation.views=1", "budget.steps=4")
    train(tmp_path, *taught, "hydra.run.dir=one")
    ddp = ("hardware=ddp", "hardware.accelerator=cpu", "hardware.devices=2", "cache.directory=other")
    train(tmp_path, *taught, *ddp, "hydra.run.dir=two")
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    for name, value in one.items():
        assert abs(two[name] - value) < 1e-3, name
    kept = json.loads((tmp_path / "two" / "run.json").read_text())["cache"]["entries"]
    assert sorted(path.name for path in (tmp_path / "other").glob("[!.]*")) == sorted(kept)


def test_captions_are_measured_and_shown(tmp_path):
    common = ("fusion=none", "objective=[caption,prefix_lm]", "objective.caption.validation_rows=3")
    train(tmp_path, *common, "budget.epochs=30", "optimizer.lr=0.01", "hydra.run.dir=run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 1 < metrics["test/caption_perplexity"] < 2
    assert metrics["test/cider"] > 1, "2.5 is the most, of one word each"
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()
    assert "What was written" in (tmp_path / "run" / "report.html").read_text()
