"""Command lines of contestants, each in a process of its own with the machine's cores to itself."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import harmonic_mean


def call(command: Sequence[str], folder: Path, log: Path, **environment: str) -> None:
    """Run a command in `folder`; its output goes to `log`. Raises SystemExit where it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        done = subprocess.run(
            [sys.executable, *command], cwd=folder, stdout=file, stderr=file, env=os.environ | environment
        )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{log.read_text()[-3000:]}")


def printed(command: Sequence[object], folder: Path) -> str:
    """Run a Python command in `folder` and return the last line of its standard output. Raises SystemExit where it fails."""
    words = [sys.executable, *map(str, command)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout.splitlines()[-1]


def mmexp(folder: Path, *words: str) -> None:
    """Run a command of `mmexp` in a folder."""
    call(["-m", "mmexp", *words], folder, folder.with_suffix(".log"))


def mmexp_train(folder: Path, *overrides: str) -> dict:
    """Run `mmexp train` and return the run's record, with its metrics as `metrics`."""
    mmexp(folder, "train", f"hydra.run.dir={folder}/run", *overrides)
    record = json.loads((folder / "run" / "run.json").read_text())
    metrics = folder / "run" / "metrics.json"
    return {**record, "metrics": json.loads(metrics.read_text()) if metrics.exists() else {}}


def open_clip_train(folder: Path, *arguments: str) -> str:
    """Run open_clip's trainer on this machine's cores, and return what it logged."""
    log = folder.with_suffix(".log")
    always = ("--device", "cpu", "--logs", str(folder / "logs"), "--log-every-n-steps", "1", "--csv-separator", ",")
    call(["-m", "open_clip_train.main", *always, *arguments], folder, log)
    return log.read_text()


def seconds(log: str) -> float:
    """Return the seconds of all training steps that open_clip's trainer logged, waiting for data included."""
    return sum(float(found) for found in re.findall(r"Batch \(t\): ([\d.]+),", log))


def recall(log: str) -> float:
    """Return the mean over both directions of the last recall at 1 that open_clip's trainer logged."""
    ways = ("image_to_text", "text_to_image")
    return sum(float(re.findall(rf"{way}_R@1: ([\d.]+)", log)[-1]) for way in ways) / len(ways)


def rates(log: str, warm_up: int = 3) -> float:
    """Return the samples a second that open_clip's trainer logged, over all steps after the warm-up."""
    found = [float(rate) for rate in re.findall(r"Batch \(t\): [\d.]+, ([\d.e+]+)/s,", log)]
    return harmonic_mean(found[warm_up:])
