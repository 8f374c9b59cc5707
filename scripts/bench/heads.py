"""Eight heads on frozen towers, five epochs each, in a sweep: sharing what is kept, from an empty cache, or computing it anew.

Towers and rows are those of contrastive.py, the label is how many crosses a caption names. Heads are `concat` and `product` in
two widths, with and without `contrastive`. All of a sweep counts: libraries, filling the cache, building, training, evaluation,
reports.
"""

import time
from functools import partial
from itertools import count
from pathlib import Path

from contest import Contest, Goal, Numbers
from work.commands import mmexp
from work.reference import labelled, write_model, write_table

HEADS = (
    *("-m", "adapter=frozen", "task=finetune", "fusion=concat,product", "fusion.dim=96,192"),
    *("objective=classify,[classify,contrastive]", "augmentation=none", "variation.views=1", "variation.seed=0"),
    *("encoder=open_clip", "data=table", "data.columns.image=filepath", "data.columns.text=title"),
    "data.columns.label=label",
)
KEPT, AGAIN = "kept", "computed each time"


def contest(folder: Path, short: bool) -> Contest:
    """Return both; the short form has few rows and a part of an epoch, which the loading of libraries outweighs."""
    model = write_model(folder / "model")
    table = labelled(write_table(folder / "rows", 200 if short else 3000))
    told = [f"data.train={table}", *(f"encoder.{name}.name=local-dir:{model}" for name in ("image", "text"))]
    small = ("data.batch_size=8", "budget.epochs=0.05", "evaluate=false", "fusion=concat", "fusion.dim=96")
    told += small if short else ("budget.epochs=5",)
    ways = {
        KEPT: partial(sweep, folder, count(), told),
        AGAIN: partial(sweep, folder, count(), [*told, "cache.enabled=false"]),
    }
    goals = [Goal(KEPT, AGAIN, 1.0 if short else 6)]
    return Contest("Eight heads on frozen towers", "seconds", ways, goals, less_is_better=True)


def sweep(folder: Path, numbers: count, told: list[str]) -> Numbers:
    """Return how long a sweep takes in a folder, and so with a cache, of its own."""
    kind = "again" if "cache.enabled=false" in told else "kept"
    began = time.perf_counter()
    mmexp(folder / f"{kind}-{next(numbers)}", "train", *HEADS, *told, "sweep.name=heads")
    return {"seconds": time.perf_counter() - began}
