"""What keeping the outputs of frozen parts saves, each a ratio within one call (A B A B), by the real command line.

    python scripts/benchmark_cache.py distil     # a step of a student: alone, with a kept teacher, with a live one
    python scripts/benchmark_cache.py sweep      # eight heads on frozen towers: each computing them, and sharing what is kept

Both train on the bundled data below a temporary folder. The cache is empty before each round, and filling it is counted
in the time of the sweep.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from mmexp.cli import main as mmexp

VIEWS = ("augmentation=none", "variation.views=1", "variation.seed=0")
STUDENT = (
    "encoder=vit",
    "fusion=none",
    "augmentation=geometry",
    "evaluate=false",
    "checkpoint.validate_every_epochs=1000",
)
DISTIL = {
    "student alone": ("objective=contrastive", "task=pretrain"),
    "kept teacher": ("objective=[contrastive,distill]", "task=distill", "teacher=teacher"),
    "live teacher": ("objective=[contrastive,distill]", "task=distill", "teacher=teacher", "cache.enabled=false"),
}
HEADS = (
    *("-m", "adapter=frozen", "task=finetune", "fusion=concat,product", "fusion.dim=96,192"),
    *("objective=classify,[classify,contrastive]", "data.label=subgroup"),
)
SWEEP = {"kept": (), "computed each time": ("cache.enabled=false",)}


def train(*overrides: str) -> None:
    """Run `mmexp train`; its output goes to a file."""
    sys.argv = ["mmexp", "train", *overrides]
    with open("log", "a") as log:
        out, sys.stdout, sys.stderr = (sys.stdout, sys.stderr), log, log
        try:
            status = mmexp()
        finally:
            sys.stdout, sys.stderr = out
    if status:
        raise SystemExit(
            f"mmexp train {' '.join(overrides)} ended with {status}: see the end of {Path('log').absolute()}"
        )


def distil(rounds: int, steps: int, teacher: list[str]) -> dict[str, list[float]]:
    """Return the milliseconds of a step in each round, as `run.json` tells the speed (warm-up left out)."""
    train("fusion=none", "objective=contrastive", "budget.steps=1", "evaluate=false", "hydra.run.dir=teacher", *teacher)
    found: dict[str, list[float]] = {name: [] for name in DISTIL}
    for number in range(rounds):
        for name, choices in DISTIL.items():
            folder = Path(f"{name.replace(' ', '_')}{number}")
            train(*STUDENT, *VIEWS, *choices, f"budget.steps={steps}", f"hydra.run.dir={folder}")
            run = json.loads((folder / "run.json").read_text())
            found[name].append(1000 * run["samples_seen"] / run["steps"] / run["samples_per_second"])
    return found


def sweep(rounds: int, epochs: float, towers: list[str]) -> dict[str, list[float]]:
    """Return the seconds of the whole sweep in each round."""
    found: dict[str, list[float]] = {name: [] for name in SWEEP}
    for number in range(rounds):
        for name, choices in SWEEP.items():
            shutil.rmtree("outputs/cache", ignore_errors=True)
            began = time.perf_counter()
            train(*HEADS, *VIEWS, *choices, f"budget.epochs={epochs}", f"sweep.name={name.split()[0]}{number}", *towers)
            found[name].append(time.perf_counter() - began)
    return found


def main() -> None:
    """Print a table: every round, the median, and its ratio to the first row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("distil", "sweep"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60, help="of each distillation")
    parser.add_argument("--epochs", type=float, default=5.0, help="of each run of the sweep")
    parser.add_argument("more", nargs="*", help="KEY=VALUE for the teacher, or for all runs of the sweep")
    asked = parser.parse_intermixed_args()
    os.chdir(tempfile.mkdtemp())
    if asked.what == "distil":
        found, unit = distil(asked.rounds, asked.steps, asked.more), "ms a step"
    else:
        found, unit = sweep(asked.rounds, asked.epochs, asked.more), "s in all"
    first = median(next(iter(found.values())))
    for name, values in found.items():
        each = "  ".join(f"{value:8.1f}" for value in values)
        print(f"{name:<20}{each}   median {median(values):8.1f} {unit}   ratio {median(values) / first:.2f}")


if __name__ == "__main__":
    main()
