"""The scripts of which the documents tell results still run."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
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


def test_the_check_of_the_demo_tells_mean_and_range_over_seeds(tmp_path, monkeypatch, capsys):
    found = {0: (0.30, 0.10), 1: (0.36, 0.14), 2: (0.42, 0.12)}
    for seed, (new, styles) in found.items():
        run = tmp_path / str(seed)
        run.mkdir()
        metrics = {"test/text_to_image_r10": new, "test/text_to_image_r10_chance": 0.06}
        metrics |= {"test_cross_style/text_to_image_r1": styles, "test_cross_style/text_to_image_r1_chance": 0.001}
        (run / "metrics.json").write_text(json.dumps(metrics))
        (run / "run.json").write_text(json.dumps({"seed": seed, "wall_seconds": 100 + 20 * seed}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    check_demo = importlib.import_module("check_demo")

    def status(*runs: str) -> int:
        monkeypatch.setattr(sys, "argv", ["check_demo.py", *runs])
        return check_demo.main()

    assert status("0", "1", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "seeds 0, 1, 2"
    assert lines[1] == "test/text_to_image_r10: 36.0% (30.0% to 42.0%), 6.0 (5.0 to 7.0) times chance (at least 5)"
    assert lines[2].startswith("test_cross_style/text_to_image_r1: 12.0% (10.0% to 14.0%), 120.0 (100.0 to 140.0)")
    assert lines[3].startswith("training with evaluation: 120 (100 to 140) s (about ")
    # The mean decides, not the best seed.
    for seed in (0, 1):
        file = tmp_path / str(seed) / "metrics.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"test/text_to_image_r10": 0.06}))
    assert status("0", "1", "2") == 1 and status("2") == 0
    with pytest.raises(SystemExit, match="2"):
        status()
    assert "make demo" in capsys.readouterr().err
