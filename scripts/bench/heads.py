"""Eight heads on frozen towers, five epochs each, as a sweep: sharing what is kept, from an empty cache, or computing it each time.

The towers are the bundled base's; heads are `concat` and `product` in two widths, with and without `contrastive`. All of a sweep
counts: libraries, filling the cache, building, training, evaluation, reports.
"""

import time
from functools import partial
from itertools import count
from pathlib import Path

from contest import Contest, Goal, Numbers
from work.commands import mmexp

HEADS = (
    *("-m", "adapter=frozen", "task=finetune", "fusion=concat,product", "fusion.dim=96,192"),
    *("objective=classify,[classify,contrastive]", "data.label=subgroup"),
    *("augmentation=none", "variation.views=1", "variation.seed=0"),
)
KEPT, AGAIN = "kept", "computed each time"


def contest(folder: Path, short: bool) -> Contest:
    """Return both; the short form has few rows and a part of an epoch, which the loading of libraries outweighs."""
    small = ("data.styles=[blob]", "data.batch_size=8", "budget.epochs=0.05", "evaluate=false", "fusion=concat")
    more = small if short else ("budget.epochs=5",)
    ways = {
        KEPT: partial(sweep, folder, count(), more),
        AGAIN: partial(sweep, folder, count(), (*more, "cache.enabled=false")),
    }
    goals = [Goal(KEPT, AGAIN, 1.0 if short else 6)]
    return Contest("Eight heads on frozen towers", "seconds", ways, goals, less_is_better=True)


def sweep(folder: Path, numbers: count, more: tuple[str, ...]) -> Numbers:
    """Return how long a sweep takes in a folder, and so with a cache, of its own."""
    kind = "again" if "cache.enabled=false" in more else "kept"
    began = time.perf_counter()
    mmexp(folder / f"{kind}-{next(numbers)}", "train", *HEADS, *more, "sweep.name=heads")
    return {"seconds": time.perf_counter() - began}
