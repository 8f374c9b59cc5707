"""The scripts of which the documents tell results still run."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


def test_the_benchmark_of_augmentation(tmp_path):
    short = ["--steps", "1", "--rounds", "1", "data.batch_size=8", "data.styles=[blob]", "hardware.threads=1"]
    command = [sys.executable, SCRIPTS / "benchmark_augmentation.py", *short]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ratio:" in done.stdout


@pytest.mark.parametrize("what", ["distil", "sweep"])
def test_the_benchmark_of_caches(tmp_path, what):
    small = ["data.batch_size=8", "data.styles=[blob]", "hardware.threads=1", "encoder.text.depth=1"]
    short = ["--rounds", "1", "--steps", "6", "--epochs", "0.02", "evaluate=false", *small]
    if what == "sweep":  # the bundled base weights have these depths
        short.remove("encoder.text.depth=1")
    command = [sys.executable, SCRIPTS / "benchmark_cache.py", what, *short]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ratio") == {"distil": 3, "sweep": 2}[what]


def test_the_check_of_comparisons():
    command = [sys.executable, SCRIPTS / "check_comparison.py", "--repeats", "4"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("3 x 2 grid, 3 seeds") == 4
    assert "bootstrap-t, 10 pairs" in done.stdout
