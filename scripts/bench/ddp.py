"""Two processes of one thread each (DDP, gloo) against one of two threads: the same contrastive batch of 128 rows.

The work is that of contrastive.py. Steps of the warm-up do not count.
"""

from functools import partial
from itertools import count
from pathlib import Path

from contest import Contest, Goal, Numbers
from contrastive import our_overrides
from work.commands import mmexp_train
from work.reference import write_model, write_table

TWO = ("hardware=ddp", "hardware.accelerator=cpu", "hardware.devices=2", "hardware.threads=1")
PRECISIONS = {"fp32": ("32-true", 1.0), "bf16": ("bf16-mixed", 1.1)}


def contest(folder: Path, short: bool) -> Contest:
    """Return both in fp32 and bf16; the short form takes 6 steps of 16 rows, in bf16 alone."""
    numbers, ways, goals = count(), {}, []
    batch, steps = (16, 6) if short else (128, 23)
    model, table = write_model(folder / "model"), write_table(folder / "rows", batch * steps)
    work = (*our_overrides(model, table, batch), f"budget.steps={steps}", "evaluate=false")
    for name, (precision, goal) in PRECISIONS.items():
        if short and name == "fp32":
            continue
        one, two = f"one process, {name}", f"two processes, {name}"
        told = (*work, f"hardware.precision={precision}")
        ways[two] = partial(rate, folder, numbers, (*told, *TWO))
        ways[one] = partial(rate, folder, numbers, (*told, "hardware.threads=2"))
        goals.append(Goal(two, one, goal))
    return Contest("Two processes against one", "samples/s", ways, goals)


def rate(folder: Path, numbers: count, overrides: tuple[str, ...]) -> Numbers:
    """Return the samples a second of all processes."""
    return {"samples/s": mmexp_train(folder / f"run-{next(numbers)}", *overrides)["samples_per_second"]}
