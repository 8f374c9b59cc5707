"""A first epoch on photographs (JPEG of 320 x 240) by a small encoder: decoded by a run before, or now by workers or without.

What is measured is the training, waiting for data included; what is kept was decoded by a run that is not counted.
"""

import csv
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
from contest import Contest, Goal, Numbers
from PIL import Image
from work.commands import mmexp_train

BEFORE, WORKERS, NOW = "decoded by a run before", "decoded now, two workers", "decoded now, no worker"


def contest(folder: Path, short: bool) -> Contest:
    """Return the three; the short form has few pictures."""
    table = write_photographs(folder, 256 if short else 4096)
    numbers = count()
    run = partial(train, folder, numbers, table)
    ways = {
        BEFORE: partial(run, "data.num_workers=0"),
        WORKERS: partial(run, "data.num_workers=2", "cache.enabled=false"),
        NOW: partial(run, "data.num_workers=0", "cache.enabled=false"),
    }
    run("data.num_workers=0")
    goals = [Goal(BEFORE, WORKERS, 1.0), Goal(BEFORE, NOW, 1.0)]
    return Contest("An epoch on photographs", "samples/s", ways, goals)


def write_photographs(folder: Path, rows: int) -> Path:
    """Write smooth pictures with grain, which are as large as photographs, and a table of them."""
    draws = np.random.default_rng(0)
    with (folder / "photographs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption"])
        for row in range(rows):
            coarse = Image.fromarray(draws.integers(256, size=(12, 16, 3), dtype=np.uint8))
            picture = np.asarray(coarse.resize((320, 240), Image.Resampling.BICUBIC)).astype(np.int16)
            grain = draws.integers(-12, 13, size=picture.shape)
            Image.fromarray((picture + grain).clip(0, 255).astype(np.uint8)).save(folder / f"{row}.jpg", quality=88)
            writer.writerow([f"{row}.jpg", f"picture {row}"])
    return folder / "photographs.csv"


def train(folder: Path, numbers: count, table: Path, *more: str) -> Numbers:
    """Return the rate of one epoch."""
    small = ("encoder.image.options.depth=1", "encoder.text.depth=1", "fusion=none", "objective=contrastive")
    data = ("data=table", f"data.train={table}", "data.batch_size=64", "augmentation=none", "data.val_fraction=0")
    where = (f"cache.directory={folder}/cache", "budget.epochs=1", "evaluate=false")
    run = mmexp_train(folder / f"run-{next(numbers)}", *small, *data, *where, *more)
    return {"samples/s": run["samples_per_second"]}
