"""Two processes of one thread each (DDP, gloo) against one of two threads: the same contrastive batch of 128 rows.

The work is that of contrastive.py. Steps of the warm-up do not count. What two processes can come to is told by two runs at a
time, each of half a batch and one thread, which share nothing and wait for nobody.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path

from contest import Contest, Goal, Numbers
from contrastive import our_overrides
from work.commands import mmexp_train
from work.reference import write_model, write_table

PROCESSES = 2
TWO = ("hardware=ddp", "hardware.accelerator=cpu", f"hardware.devices={PROCESSES}", "hardware.threads=1")
PRECISIONS = {"fp32": ("32-true", 1.0), "bf16": ("bf16-mixed", 1.1)}


def contest(folder: Path, short: bool) -> Contest:
    """Return both in fp32 and bf16; the short form takes 6 steps of 16 rows, in fp32 alone."""
    numbers, ways, goals = count(), {}, []
    batch, steps = (16, 6) if short else (128, 23)
    model, table = write_model(folder / "model"), write_table(folder / "rows", batch * steps)
    for name, (precision, goal) in PRECISIONS.items():
        if short and name == "bf16":
            continue
        one, two = f"one process, {name}", f"two processes, {name}"
        told = (f"budget.steps={steps}", "evaluate=false", f"hardware.precision={precision}")
        whole = (*our_overrides(model, table, batch), *told)
        half = (*our_overrides(model, table, batch // PROCESSES), *told, "hardware.threads=1")
        ways[two] = partial(rate, folder, numbers, (*whole, *TWO))
        ways[one] = partial(rate, folder, numbers, (*whole, f"hardware.threads={PROCESSES}"))
        ways[f"two runs apart, {name}"] = partial(apart, folder, numbers, half)
        goals.append(Goal(two, one, goal))
    bf16 = [name for name in ways if name.endswith("bf16")]
    return Contest("Two processes against one", "samples/s", ways, goals, bf16=bf16)


def rate(folder: Path, numbers: count, overrides: tuple[str, ...]) -> Numbers:
    """Return the samples a second of all processes."""
    return {"samples/s": mmexp_train(folder / f"run-{next(numbers)}", *overrides)["samples_per_second"]}


def apart(folder: Path, numbers: count, overrides: tuple[str, ...]) -> Numbers:
    """Return the samples a second of runs at the same time, together."""
    with ThreadPoolExecutor(PROCESSES) as pool:
        runs = [pool.submit(rate, folder, numbers, overrides) for _ in range(PROCESSES)]
    return {"samples/s": sum(run.result()["samples/s"] for run in runs)}
