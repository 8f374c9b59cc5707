"""LoRA on the top 3 of a small ViT's 12 layers: what lies below them kept on disk, against HF's Trainer and peft.

The ViT-tiny/8 of `contrastive` at 64 pixels tells how many crosses pictures show, in batches of 32. The peer has its pixels ready
in memory; ours decodes files once. Filling the cache, once before the first step, does not count, nor do steps of the warm-up.
"""

import json
from functools import partial
from itertools import count
from pathlib import Path

from contest import Contest, Goal, Numbers
from prefix import AGAIN, KEPT, TOP
from work.commands import mmexp_train, printed
from work.reference import SIDE, labelled, write_table

TRAINER = Path(__file__).parent / "work" / "peft_pictures.py"
PLAIN, FAST = "HF Trainer + peft, defaults", "HF Trainer + peft, bf16"
BATCH = 32


def contest(folder: Path, short: bool) -> Contest:
    """Return the four; the short form has four layers and 6 steps."""
    steps, layers = (6, 4) if short else (40, 12)
    table = labelled(write_table(folder / "rows", BATCH * (steps + 3)))
    work = overrides(table, layers)
    base = folder / "base"
    mmexp_train(base, *work, "budget.steps=1")
    tuned = [
        *work,
        "adapter=lora",
        "adapter.rank=8",
        "adapter.alpha=16",
        f"adapter.last={TOP}",
        f"init_from={base}/run",
        f"budget.steps={steps + 3}",
    ]
    numbers = count()
    ways = {
        KEPT: partial(ours, folder, numbers, tuned),
        AGAIN: partial(ours, folder, numbers, [*tuned, "cache.enabled=false"]),
        PLAIN: partial(peer, table, layers, steps, "plain"),
        FAST: partial(peer, table, layers, steps, "fast"),
    }
    goals = [Goal(KEPT, PLAIN, 3), Goal(KEPT, FAST, 1.8)]
    return Contest("LoRA on the top 3 layers of a small ViT", "samples/s", ways, goals, bf16=[FAST])


def overrides(table: Path, layers: int) -> list[str]:
    """Return the work as `mmexp train` is told it."""
    size = {"patch_size": 8, "depth": layers, "class_token": "true", "global_pool": "token"}
    return [
        *("~encoder.text", "encoder.image.stem=[]", f"encoder.image.image_size={SIDE}", "fusion=none"),
        *(f"encoder.image.options.{name}={value}" for name, value in size.items()),
        *("task=finetune", "objective=classify", "objective.classify.source=image", "augmentation=none"),
        *("data=table", f"data.train={table}", "data.columns.image=filepath", "data.columns.text=null"),
        *("data.columns.label=label", f"data.batch_size={BATCH}", "variation.views=1", "evaluate=false"),
        "checkpoint.validate_every_epochs=1000",
    ]


def ours(folder: Path, numbers: count, told: list[str]) -> Numbers:
    """Return the rate of `mmexp train`."""
    return {"samples/s": mmexp_train(folder / f"run-{next(numbers)}", *told)["samples_per_second"]}


def peer(table: Path, layers: int, steps: int, how: str) -> Numbers:
    """Return the rate of HF's Trainer."""
    return json.loads(printed([TRAINER, table, layers, steps, how, TOP], table.parent))
