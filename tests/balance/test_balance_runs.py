"""Balances and curricula in real runs from the command line."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

TESTS = Path(__file__).parents[1]
TINY = (
    "--config-dir",
    str(TESTS / "outside" / "conf"),
    "trust=[outside,stand_ins]",
    "encoder=tiny",
    "data=squares",
    "fusion=added",
)
THREE = "objective=[contrastive,matching,masked]"
BALANCES = ("fixed", "uncertainty", "gradnorm", "pcgrad", "mgda", "famo", "dwa")


def train(folder: Path, *overrides: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "mmexp", "train", *TINY, "hardware.threads=1", "evaluate=false", *overrides],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == expect, done.stderr
    return done


def logged(run: Path) -> list[dict[str, float]]:
    """Return the numbers of each log step."""
    rows = csv.DictReader((run / "metrics.csv").open())
    return [{name: float(cell) for name, cell in row.items() if cell} for row in rows if row["train/loss"]]


def test_every_balance_trains_with_three_objectives(tmp_path):
    short = ("budget.steps=2", "log_every_steps=1", "hardware.precision=bf16-mixed", "sweep.name=all")
    train(tmp_path, "-m", f"balance={','.join(BALANCES)}", THREE, *short)
    for place, name in enumerate(BALANCES):
        run = tmp_path / "outputs" / "sweeps" / "all" / str(place)
        assert json.loads((run / "run.json").read_text())["steps"] == 2
        first = logged(run)[0]
        weights = [key for key in first if key.startswith("train/weight_")]
        assert weights == [
            f"train/weight_{loss}" for loss in ("contrastive", "masked_patches", "masked_words", "matching")
        ]
        cosines = [key for key in first if key.startswith("train/cosine_")]
        assert len(cosines) == (6 if name in ("gradnorm", "pcgrad", "mgda") else 0), name


def test_cosines_come_at_every_so_many_log_steps_and_change_nothing(tmp_path):
    common = ("budget.steps=8", "log_every_steps=2", THREE, "hardware.precision=32-true")
    train(tmp_path, *common, "hydra.run.dir=plain")
    train(tmp_path, *common, "balance.cosines_every=2", "hydra.run.dir=looking")
    rows = {row["step"]: row for row in logged(tmp_path / "looking")}
    assert [step for step, row in rows.items() if "train/cosine_contrastive_matching" in row] == [3, 7]
    assert all(abs(row["train/cosine_contrastive_matching"]) <= 1 for row in (rows[3], rows[7]))
    assert [row["train/loss"] for row in rows.values()] == [row["train/loss"] for row in logged(tmp_path / "plain")]


def test_resume_is_exact(tmp_path):
    common = ("budget.steps=8", THREE, "hardware.precision=32-true", "checkpoint.every_steps=4", "checkpoint.keep=2")
    for name in ("famo", "dwa balance.every=3", "gradnorm"):
        choice = f"balance={name}".split()
        shutil.rmtree(tmp_path / "whole", ignore_errors=True)
        shutil.rmtree(tmp_path / "half", ignore_errors=True)
        train(tmp_path, *common, *choice, "hydra.run.dir=whole")
        (tmp_path / "half" / "checkpoints").mkdir(parents=True)
        shutil.copy(tmp_path / "whole" / "checkpoints" / "step-4.ckpt", tmp_path / "half" / "checkpoints" / "last.ckpt")
        train(tmp_path, *common, *choice, "hydra.run.dir=half", "resume=auto")
        whole, half = (
            torch.load(tmp_path / run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
            for run in ("whole", "half")
        )
        assert [key for key in whole if key.startswith("balance.")]
        assert all(torch.equal(tensor.nan_to_num(-1), half[key].nan_to_num(-1)) for key, tensor in whole.items()), name


def test_a_balance_stays_with_its_run(tmp_path):
    train(tmp_path, "balance=gradnorm", "budget.steps=2", "hydra.run.dir=base", "name=base")
    done = train(tmp_path, "init_from=base", "budget.steps=1", "evaluate=true", "hydra.run.dir=next")
    loaded = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("  loaded")]
    assert "objectives.matching" in loaded
    assert not any("balance" in part for part in loaded)
    assert "  fresh" not in done.stdout
    frozen = train(tmp_path, "init_from=base", "adapter=frozen", "balance=pcgrad", "budget.steps=1", expect=2)
    assert "compares gradients on the shared model, and none of it is trained" in frozen.stderr


def test_weights_and_ratios_may_be_curricula(tmp_path):
    grows = "objective.matching.weight={from:0.0,to:1.0,start:0.25,end:0.75,shape:linear}"
    hides = "objective.masked.patches={from:0.0,to:0.5,shape:step}"
    train(tmp_path, "budget.steps=8", "log_every_steps=1", THREE, grows, hides, "balance=mgda", "hydra.run.dir=run")
    rows = logged(tmp_path / "run")
    assert rows[2]["train/weight_matching"] == 0
    assert rows[3]["train/weight_matching"] > 0
    assert rows[0]["train/loss_masked_patches"] == rows[6]["train/loss_masked_patches"] == 0
    total = sum(rows[4][f"train/loss_{name}"] for name in ("contrastive", "masked_patches", "masked_words"))
    assert abs(rows[4]["train/loss"] - total - rows[4]["train/loss_matching"] / 2) < 1e-4


def test_two_processes_do_as_one(tmp_path):
    common = ("fusion=none", "objective=[contrastive,classify]", "objective.classify.source=image", "balance=pcgrad")
    longer = ("budget.steps=6", "log_every_steps=1", "optimizer.lr=0.01", "hardware.precision=32-true")
    train(tmp_path, *common, *longer, "hydra.run.dir=one")
    ddp = ("hardware=ddp", "hardware.accelerator=cpu", "hardware.devices=2")
    train(tmp_path, *common, *longer, *ddp, "hydra.run.dir=two")
    one, two = logged(tmp_path / "one"), logged(tmp_path / "two")
    # The gradients do meet head-on, and both count the same of each.
    assert min(row["train/cosine_classify_contrastive"] for row in one) < 0
    for ours, theirs in zip(one, two, strict=True):
        for name in ("cosine_classify_contrastive", "weight_classify", "weight_contrastive"):
            assert abs(ours[f"train/{name}"] - theirs[f"train/{name}"]) < 1e-4, name
    weights = [torch.load(tmp_path / run / "checkpoints" / "last.ckpt", weights_only=True) for run in ("one", "two")]
    for name, tensor in weights[0]["state_dict"].items():
        assert torch.allclose(tensor, weights[1]["state_dict"][name], atol=1e-4), name
