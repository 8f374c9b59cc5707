"""What a sweep costs over its runs alone: a process for each run, one warm process, and two warm workers of one thread.

    python scripts/benchmark_sweep.py [--runs 8] [--steps 20] [--rounds 2] [OVERRIDES of all runs]

Prints the seconds of every round (A B C A B C), their medians and how many times faster than a process for each run.
The goals are 2.4 for one warm process and 3 for two workers. Run it on a quiet machine with two cores.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

SMALL = ("encoder=student", "fusion=none", "objective=contrastive")
MORE = ("data.batch_size=64", "evaluate=false", "checkpoint.validate_every_epochs=1000")
WAYS = ("a process for each run", "one warm process", "two warm workers")


def train(*overrides: str) -> None:
    """Run `mmexp train` in a process of its own; what it prints goes to a file."""
    with open("log", "a") as log:
        done = subprocess.run([sys.executable, "-m", "mmexp", "train", *overrides], stdout=log, stderr=log)
    if done.returncode:
        raise SystemExit(f"mmexp train {' '.join(overrides)} failed: see the end of {Path('log').absolute()}")


def seconds(way: str, runs: int, label: str, overrides: list[str]) -> float:
    """Return how long all runs take."""
    began = time.perf_counter()
    if way == WAYS[0]:
        for seed in range(runs):
            train(*overrides, f"seed={seed}", f"hydra.run.dir=alone/{label}-{seed}")
    else:
        workers = ["hydra/launcher=local", "hydra.launcher.n_jobs=2", "hardware.threads=1"] if way == WAYS[2] else []
        train("-m", *overrides, f"seed={','.join(map(str, range(runs)))}", f"sweep.name={label}", *workers)
    return time.perf_counter() - began


def main() -> None:
    """Print a table: every round, the median, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    asked, given = parser.parse_known_args()
    os.chdir(tempfile.mkdtemp())
    overrides = [*SMALL, *MORE, f"budget.steps={asked.steps}", *given]
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(asked.rounds):
        for place, way in enumerate(WAYS):
            found[way].append(seconds(way, asked.runs, f"round{number}-{place}", overrides))
    first = median(found[WAYS[0]])
    for way, values in found.items():
        each = "  ".join(f"{value:7.1f}" for value in values)
        print(f"{way:<24}{each}   median {median(values):7.1f} s   ratio {first / median(values):.2f}")


if __name__ == "__main__":
    main()
