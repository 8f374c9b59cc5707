"""Judging a model of open_clip by retrieval on 10,000 pairs: `mmexp train train=false` against clip-benchmark, whole processes.

Both embed every picture and text (see work/reference.py) and tell recalls in both directions at 1, 5 and 10; ours also tells
ranks, neighbours and chance, and writes its report. clip-benchmark's own loop reads by open_clip's transform in two workers.
"""

import time
from functools import partial
from itertools import count
from pathlib import Path

from contest import Contest, Goal, Numbers
from contrastive import our_overrides
from work.commands import mmexp_train, printed
from work.reference import write_model, write_table

PEER = Path(__file__).parent / "work" / "clip_benchmark_peer.py"


def contest(folder: Path, short: bool) -> Contest:
    """Return both; the short form has 256 pairs."""
    pairs = 256 if short else 10_000
    model = write_model(folder / "model")
    table, few = write_table(folder / "rows", pairs), write_table(folder / "few", 64, seed=1)
    ways = {
        "mmexp": partial(ours, folder, count(), model, table, few),
        "clip-benchmark, fp32": partial(peer, model, table, "fp32"),
        "clip-benchmark, bf16": partial(peer, model, table, "bf16"),
    }
    # Of a few pairs nearly all is start.
    goals = [Goal("mmexp", "clip-benchmark, fp32", 1.0 if short else 1.5)]
    title, bf16 = f"Retrieval on {pairs:,} pairs", ["clip-benchmark, bf16"]
    return Contest(title, "seconds", ways, goals, less_is_better=True, bf16=bf16)


def ours(folder: Path, numbers: count, model: Path, table: Path, few: Path) -> Numbers:
    """Return how long a run takes that only measures."""
    run = folder / f"run-{next(numbers)}"
    began = time.perf_counter()
    mmexp_train(run, *our_overrides(model, few, 64), f"data.test={table}", "data.batch_size=64", "train=false")
    return {"seconds": time.perf_counter() - began}


def peer(model: Path, table: Path, precision: str) -> Numbers:
    """Return how long clip-benchmark's function takes with what it needs around it."""
    began = time.perf_counter()
    printed([PEER, model, table, precision], model.parent)
    return {"seconds": time.perf_counter() - began}
