"""What a sweep costs over its runs alone: eight short runs as processes, in one warm process, and in two warm workers.

20 steps of a small dual encoder each (`encoder=student`, batches of 64) on the bundled data, all of a process counted.
"""

import time
from functools import partial
from itertools import count
from pathlib import Path

from contest import Contest, Goal, Numbers
from work.commands import mmexp

SMALL = ("encoder=student", "fusion=none", "objective=contrastive", "evaluate=false")
MORE = ("data.batch_size=64", "checkpoint.validate_every_epochs=1000")
ALONE, WARM, WORKERS = "a process for each run", "one warm process", "two warm workers"
LAUNCHER = ("hydra/launcher=local", "hydra.launcher.n_jobs=2", "hardware.threads=1")


def contest(folder: Path, short: bool) -> Contest:
    """Return the three; the short form has three runs of two steps."""
    runs, steps = (3, 2) if short else (8, 20)
    told = (folder, count(), runs, (*SMALL, *MORE, f"budget.steps={steps}"))
    ways = {ALONE: partial(alone, *told), WARM: partial(swept, *told), WORKERS: partial(swept, *told, LAUNCHER)}
    goals = [Goal(WARM, ALONE, 2.4), Goal(WORKERS, ALONE, 3)]
    return Contest(f"{runs} short runs", "seconds", ways, goals, less_is_better=True)


def alone(folder: Path, numbers: count, runs: int, overrides: tuple[str, ...]) -> Numbers:
    """Return how long the runs take one after another."""
    began = time.perf_counter()
    for seed in range(runs):
        mmexp(folder / f"run-{next(numbers)}", "train", *overrides, f"seed={seed}")
    return {"seconds": time.perf_counter() - began}


def swept(
    folder: Path, numbers: count, runs: int, overrides: tuple[str, ...], launcher: tuple[str, ...] = ()
) -> Numbers:
    """Return how long they take as a sweep."""
    seeds = f"seed={','.join(map(str, range(runs)))}"
    began = time.perf_counter()
    mmexp(folder / f"sweep-{next(numbers)}", "train", "-m", *overrides, seeds, *launcher)
    return {"seconds": time.perf_counter() - began}
