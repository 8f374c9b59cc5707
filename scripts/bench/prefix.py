"""LoRA on the top 3 of a small BERT's 12 layers: what lies below them kept on disk, against HF's Trainer and peft.

The work is that of `lora`. Ours is also run without the cache. Filling it, once before the first step, does not count; steps of
the warm-up do not either.
"""

from functools import partial
from itertools import count
from pathlib import Path

from contest import Contest, Goal, Numbers
from lora import FAST, PLAIN, overrides, peer
from work.commands import mmexp_train
from work.texts import write_bert, write_texts

KEPT, AGAIN = "mmexp, what lies below kept", "mmexp, without cache"
TOP = 3


def contest(folder: Path, short: bool) -> Contest:
    """Return the four; the short form has four layers and 6 steps."""
    steps = 6 if short else 40
    model = write_bert(folder / "bert", layers=4 if short else 12)
    table = write_texts(folder, 32 * (steps + 3))
    numbers = count()
    ways = {
        KEPT: partial(ours, folder, numbers, model, table, steps),
        AGAIN: partial(ours, folder, numbers, model, table, steps, "cache.enabled=false"),
        PLAIN: partial(peer, model, table, steps, "plain", TOP),
        FAST: partial(peer, model, table, steps, "fast", TOP),
    }
    goals = [Goal(KEPT, PLAIN, 3), Goal(KEPT, FAST, 1.8)]
    return Contest("LoRA on the top 3 layers of a small BERT", "samples/s", ways, goals, bf16=[FAST])


def ours(folder: Path, numbers: count, model: Path, table: Path, steps: int, *more: str) -> Numbers:
    """Return the rate of `mmexp train`."""
    told = (*overrides(model, table), f"adapter.last={TOP}", "variation.views=1", f"budget.steps={steps + 3}")
    run = mmexp_train(folder / f"run-{next(numbers)}", *told, *more)
    return {"samples/s": run["samples_per_second"]}
