"""Sweeps from the command line: killed, ended by a signal, with workers that die, through every launcher."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TINY = (
    *(
        "--config-dir",
        str(TESTS / "outside" / "conf"),
        "trust=[outside,stand_ins]",
        "encoder=tiny",
        "data=squares",
        "fusion=none",
    ),
    *("objective=contrastive", "hardware.threads=1", "hardware.precision=32-true", "budget.epochs=null"),
)
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}


def start(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mmexp", "train", "-m", *TINY, *overrides],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def sweep(folder: Path, *overrides: str, expect: int = 0) -> str:
    process = start(folder, *overrides)
    told = process.communicate(timeout=300)[0]
    assert process.returncode == expect, told
    return told


def record(folder: Path, name: str, number: int) -> dict:
    file = folder / "outputs" / "sweeps" / name / str(number) / "run.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def until_under_way(folder: Path, name: str, number: int) -> dict:
    """Wait until the run has logged a step; return its record."""
    history = folder / "outputs" / "sweeps" / name / str(number) / "metrics.csv"
    while not (history.is_file() and history.stat().st_size):
        time.sleep(0.05)
    return record(folder, name, number)


def test_a_killed_sweep_goes_on_and_does_nothing_twice(tmp_path):
    short = ["--runs", "3", "--kills", "2", *TINY, "budget.steps=200"]
    script = TESTS.parent / "scripts" / "crash_sweep.py"
    done = subprocess.run([sys.executable, script, *short], env=ENVIRONMENT, capture_output=True, text=True)
    assert "0 were begun again" in done.stdout, done.stdout + done.stderr
    assert (done.returncode, "3 of 3 runs have the same metrics" in done.stdout) == (0, True), done.stdout


def test_a_signal_ends_the_run_under_way_and_the_sweep_which_then_goes_on(tmp_path):
    asked = ("sweep.name=s", "seed=0,1", "log_every_steps=1", "evaluate=false")
    process = start(tmp_path, *asked, "budget.steps=300")
    until_under_way(tmp_path, "s", 0)
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=60)[0]
    assert process.returncode == 143, told
    assert "the same command goes on" in told
    assert record(tmp_path, "s", 0)["status"] == "interrupted"
    assert not record(tmp_path, "s", 1)
    told = sweep(tmp_path, *asked, "budget.steps=300")
    assert "sweep s: 2 runs; 1 goes on from its checkpoint, 1 to do" in told
    assert [record(tmp_path, "s", number)["steps"] for number in (0, 1)] == [300, 300]
    assert "2 finished" in sweep(tmp_path, *asked, "budget.steps=300")


def test_a_worker_that_is_killed_takes_only_its_run_along(tmp_path):
    """The pool takes the neighbour along: both go on alone, and the one that is killed once more has failed."""
    asked = ("sweep.name=k", "seed=0,1,2", "log_every_steps=1", "evaluate=false", "hydra/launcher=local")
    process = start(tmp_path, *asked, "budget.steps=600")
    until_under_way(tmp_path, "k", 1)
    first = until_under_way(tmp_path, "k", 0)["pid"]
    os.kill(first, signal.SIGKILL)
    while (again := record(tmp_path, "k", 0))["status"] != "running" or again["pid"] == first:
        time.sleep(0.05)
    os.kill(again["pid"], signal.SIGKILL)
    told = process.communicate(timeout=300)[0]
    assert process.returncode == 1, told
    assert "its process died (signal or out of memory)" in told
    assert [record(tmp_path, "k", number)["status"] for number in range(3)] == ["failed", "completed", "completed"]


def test_a_wrong_value_too_little_memory_and_a_loss_that_is_not_finite_leave_the_others_alone(tmp_path):
    rates = ["-1", "0.5", "1e38", *(f"{rate / 1000}" for rate in range(1, 10))]
    asked = ("sweep.name=f", "optimizer=greedy", f"optimizer.lr={','.join(rates)}", "budget.steps=4", "evaluate=false")
    told = sweep(tmp_path, *asked, "log_every_steps=1", expect=1)
    ends = [record(tmp_path, "f", number)["status"] for number in range(12)]
    assert ends == ["failed"] * 3 + ["completed"] * 9
    table = told[told.index("failed  why") :]
    for number, why in enumerate(
        ("'optimizer.lr' must be a number", "RuntimeError: .* allocate memory", r"loss_\w+ is nan at step")
    ):
        assert re.search(rf"^{number} +{why}", table, re.MULTILINE | re.DOTALL), table
    first = record(tmp_path, "f", 3)["began"]
    assert "9 finished, 3 to do" in sweep(tmp_path, *asked, "log_every_steps=1", expect=1)
    assert record(tmp_path, "f", 3)["began"] == first


def test_a_sweep_that_is_wrong_as_a_whole_writes_nothing(tmp_path):
    told = sweep(tmp_path, "sweep.name=w", "encoder=tiny,tyni", expect=2)
    assert "'tyni' is not a choice of encoder. Did you mean 'tiny'?" in told
    assert "Traceback" not in told
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("launcher", ["local", "ray", "submitit_local"])
def test_every_launcher_runs_a_sweep_and_finds_it_again(tmp_path, launcher):
    asked = ("sweep.name=l", "seed=0,1", "budget.steps=2", f"hydra/launcher={launcher}")
    told = sweep(tmp_path, *asked)
    assert "Warning" not in told
    runs = [record(tmp_path, "l", number) for number in (0, 1)]
    assert [run["status"] for run in runs] == ["completed", "completed"]
    book = json.loads((tmp_path / "outputs" / "sweeps" / "l" / "sweep.json").read_text())
    assert [run["fingerprint"] for run in book["runs"]] == [run["fingerprint"] for run in runs]
