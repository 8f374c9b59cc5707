"""The contrastive step of the reference work as it is by default, with its blocks compiled, and with them computed again.

`seconds` are those of the whole command, the wait for the compiler included; `MB` is the most memory that the process held.
"""

import time
from functools import partial
from itertools import count
from pathlib import Path

from contest import Contest, Goal, Numbers
from contrastive import our_overrides
from work.commands import mmexp_train
from work.reference import write_model, write_table

PLAIN, COMPILED, AGAIN = "as it is", "hardware.compile=true", "hardware.recompute=true"


def contest(folder: Path, short: bool) -> Contest:
    """Return the three; the short form takes 6 steps of 16 rows."""
    batch, steps = (16, 6) if short else (128, 23)
    model, table = write_model(folder / "model"), write_table(folder / "rows", batch * steps)
    run = partial(train, folder, count(), our_overrides(model, table, batch), steps)
    ways = {PLAIN: run, COMPILED: partial(run, COMPILED), AGAIN: partial(run, AGAIN)}
    # What is to be seen is what they cost and gain: neither is a default.
    return Contest("Ways to run the blocks", "samples/s", ways, [Goal(COMPILED, PLAIN, 0.3)] if short else [])


def train(folder: Path, numbers: count, overrides: list[str], steps: int, *more: str) -> Numbers:
    """Return rate, seconds and memory of a run."""
    began = time.perf_counter()
    run = mmexp_train(folder / f"run-{next(numbers)}", *overrides, f"budget.steps={steps}", "evaluate=false", *more)
    seconds = time.perf_counter() - began
    return {"samples/s": run["samples_per_second"], "seconds": seconds, "MB": run.get("peak_memory_bytes", 0) / 1e6}
