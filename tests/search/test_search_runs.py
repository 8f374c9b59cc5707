"""Searches of real runs from the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

from mmexp.sweeps.search import search_of
from mmexp.sweeps.study import open_study

TESTS = Path(__file__).parents[1]
TINY = (
    "--config-dir",
    str(TESTS / "outside" / "conf"),
    "trust=[outside,stand_ins]",
    "encoder=tiny",
    "data=squares",
    "fusion=none",
)
SHORT = ("objective=contrastive", "hardware.threads=1", "budget.steps=8", "log_every_steps=4")
RATES = "optimizer.lr=1e-6,1e-5,1e-4,3e-2,1e-1"
SEARCH = (
    "hydra/sweeper=optuna",
    "hydra.sweeper.pruner=median",
    "hydra.sweeper.startup=1",
    "hydra.sweeper.metric=val/loss",
    "sweep.name=rates",
)


def begin(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "mmexp", "train", "-m", *TINY, *SHORT, *overrides]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment, **pipes)


def ended(process: subprocess.Popen[str], expect: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == expect, out + err
    return out, err


def read(run: Path, name: str = "run.json") -> dict:
    return json.loads((run / name).read_text())


def test_a_search_prunes_and_goes_on_where_it_is_asked_for_more(tmp_path):
    sweep = tmp_path / "outputs" / "sweeps" / "rates"
    out, _ = ended(begin(tmp_path, *SEARCH, RATES, "hydra.sweeper.trials=3"))
    assert "search rates: 3 trials; tpe, pruner median; by val/loss, of which less is better" in out
    before = [(sweep / str(number) / "run.json").stat().st_mtime_ns for number in range(3)]
    out, _ = ended(begin(tmp_path, *SEARCH, RATES, "hydra.sweeper.trials=9"))
    assert "search rates: 5 trials, 3 ended;" in out
    assert before == [(sweep / str(number) / "run.json").stat().st_mtime_ns for number in range(3)]

    runs = {run.name: read(run) for run in (sweep / str(number) for number in range(5))}
    assert {run["status"] for run in runs.values()} == {"completed"}
    stopped = [name for name, run in runs.items() if "stopped" in run]
    assert stopped
    for name in stopped:
        assert runs[name]["stopped"].startswith(f"pruned at step {runs[name]['steps']}: val/loss ")
        assert runs[name]["steps"] < 8
        assert read(sweep / name, "metrics.json") == {}
        assert (sweep / name / "checkpoints" / "last.ckpt").is_file()
    whole = next(name for name in runs if name not in stopped)
    assert "test/loss" in read(sweep / whole, "metrics.json")

    book = read(sweep, "sweep.json")
    assert (book["sweeper"], book["planned"]) == ("optuna", 5)
    assert [run["fingerprint"] for run in book["runs"]] == [run["fingerprint"] for run in runs.values()]
    study = open_study(search_of(sweep / "0"))
    assert [trial.state.name for trial in study.trials] == [
        "PRUNED" if str(number) in stopped else "COMPLETE" for number in range(5)
    ]
    assert study.best_params["optimizer.lr"] in ("0.03", "0.1")
    steps = sum(run["steps"] for run in runs.values())
    assert f"5 trials: {5 - len(stopped)} ran to the end, {len(stopped)} pruned; {steps} training steps" in out
    assert f"{steps / 40:.0%} of the grid of 5" in out
    best = f"optimizer.lr={study.best_params['optimizer.lr']}"
    assert [
        line
        for line in out.splitlines()
        if line.startswith("best: mmexp train 'trust=[outside,stand_ins]' encoder=tiny") and line.endswith(best)
    ]

    _, err = ended(begin(tmp_path, *SEARCH, "optimizer.lr=1e-3,1e-2"), expect=2)
    assert "sweep.name=rates: this search was begun with optimizer.lr=" in err
    assert len(err.splitlines()) == 1


def test_two_processes_share_a_search_of_real_runs(tmp_path):
    asked = ("hydra/sweeper=halving", "hydra.sweeper.factor=2", "sweep.name=shared", "hydra.sweeper.metric=val/loss")
    both = [begin(tmp_path, *asked, "optimizer.lr=1e-3,1e-2,3e-2,1e-1") for _ in range(2)]
    outs = [ended(process)[0] for process in both]
    runs = [line for out in outs for line in out.splitlines() if line.startswith("run: ")]
    assert sorted(Path(line).name for line in runs) == ["0", "1", "2", "3"]
    study = open_study(search_of(tmp_path / "outputs" / "sweeps" / "shared" / "0"))
    assert {trial.state.name for trial in study.trials} <= {"COMPLETE", "PRUNED"}
    assert len({str(trial.params) for trial in study.trials}) == 4


def test_a_wrong_search_is_refused_before_anything_is_written(tmp_path):
    wrong = {
        ("optimizer.lr=1e-3", "hydra/sweeper=optuna"): "there is nothing to search",
        ("optimizer.lr=interval(1e-3,1)", "hydra/sweeper=halving"): "optimizer.lr: an interval has no end of values",
        (RATES, "hydra/sweeper=optuna", "hydra.sweeper.pruner=medina"): "Did you mean 'median'?",
        ("optimizer.lr=interval(-1,1)", "hydra/sweeper=optuna"): "'optimizer.lr' must be",
        ("optimizer=adamw,adams", "hydra/sweeper=optuna"): "'adams' is not a choice of optimizer. Did you mean 'adam'?",
    }
    processes = {words: begin(tmp_path, *words) for words in wrong}
    for words, told in wrong.items():
        _, err = ended(processes[words], expect=2)
        assert told in err, err
        assert len(err.splitlines()) == 1, err
    assert not (tmp_path / "outputs").exists()
