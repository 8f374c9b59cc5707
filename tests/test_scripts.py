"""The scripts of which the documents tell results still run."""

import json
import subprocess
import sys
from pathlib import Path

from comparison.made_up import write

SCRIPTS = Path(__file__).parents[1] / "scripts"


def test_the_benchmark_of_augmentation(tmp_path):
    short = ["--steps", "1", "--rounds", "1", "data.batch_size=8", "data.styles=[blob]", "hardware.threads=1"]
    command = [sys.executable, SCRIPTS / "benchmark_augmentation.py", *short]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ratio:" in done.stdout


def test_the_check_of_comparisons():
    command = [sys.executable, SCRIPTS / "check_comparison.py", "--repeats", "4"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("3 x 2 grid, 3 seeds") == 4
    assert "bootstrap-t, 10 pairs" in done.stdout


def test_the_table_of_fusions(tmp_path):
    for fusion, accuracy in (("late", 0.7), ("product", 0.9)):
        for seed in range(2):
            settings = {"fusion": fusion, "seed": seed}
            run = write(tmp_path / f"{fusion}{seed}", settings, accuracy + seed / 100, train_seconds=60.0)
            metrics = json.loads((run / "metrics.json").read_text())
            more = {"test_without_image/accuracy": 0.5, "test_without_image/image_neighbour_accuracy": 0.1}
            (run / "metrics.json").write_text(json.dumps(metrics | (more if fusion == "late" else {})))
    command = [sys.executable, SCRIPTS / "compare_fusions.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "| fusion | seeds | all | without image | seconds |",
        "| --- | --- | --- | --- | --- |",
        "| `product` | 2 | 90.5 ± 6.4 % | – | 60 |",
        "| `late` | 2 | 70.5 ± 6.4 % | 50.0 ± 0.0 % | 60 |",
    ]
    for run in tmp_path.iterdir():
        (run / "metrics.json").unlink()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "no finished run has test/accuracy" in done.stderr
