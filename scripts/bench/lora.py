"""LoRA on all layers of a small BERT (12 layers of width 256) that classifies texts: `mmexp train` against HF's Trainer and peft.

Batches of 32 texts of up to 64 tokens, ours of like length (`data.by_length`). Steps of the warm-up do not count; waiting for
data does.
"""

import json
from functools import partial
from itertools import count
from pathlib import Path

from contest import Contest, Goal, Numbers
from work.commands import mmexp_train, printed
from work.texts import write_bert, write_texts

TRAINER = Path(__file__).parent / "work" / "peft_trainer.py"
OURS, PLAIN, FAST = "mmexp", "HF Trainer + peft, defaults", "HF Trainer + peft, bf16, padded to the batch"


def contest(folder: Path, short: bool) -> Contest:
    """Return the three; the short form has two layers and 6 steps."""
    steps = 6 if short else 40
    model = write_bert(folder / "bert", layers=2 if short else 12)
    table = write_texts(folder, 32 * (steps + 3))
    ways = {
        OURS: partial(ours, folder, count(), model, table, steps),
        PLAIN: partial(peer, model, table, steps, "plain"),
        FAST: partial(peer, model, table, steps, "fast"),
    }
    goals = [Goal(OURS, PLAIN, 2.7), Goal(OURS, FAST, 1.7)]
    return Contest("LoRA on all layers of a small BERT", "samples/s", ways, goals, bf16=[FAST])


def ours(folder: Path, numbers: count, model: Path, table: Path, steps: int) -> Numbers:
    """Return the rate of `mmexp train`."""
    run = mmexp_train(folder / f"run-{next(numbers)}", *overrides(model, table), f"budget.steps={steps + 3}")
    return {"samples/s": run["samples_per_second"]}


def overrides(model: Path, table: Path) -> list[str]:
    """Return the work as `mmexp train` is told it."""
    return [
        *(
            "encoder/text=huggingface",
            f"encoder.text.name={model}",
            "~encoder.image",
            "adapter=lora",
            "adapter.rank=8",
            "adapter.alpha=16",
            "task=finetune",
        ),
        *("fusion=none", "objective=classify", "objective.classify.source=text", "augmentation=none", "evaluate=false"),
        *("data=table", f"data.train={table}", "data.columns.image=null", "data.columns.text=text"),
        *(
            "data.columns.label=label",
            "data.batch_size=32",
            "data.by_length=true",
            "checkpoint.validate_every_epochs=1000",
        ),
    ]


def peer(model: Path, table: Path, steps: int, how: str, top: int | None = None) -> Numbers:
    """Return the rate of HF's Trainer, with LoRA on the `top` layers alone, where it is given."""
    return json.loads(printed([TRAINER, model, table, steps, how, *([top] if top else [])], model.parent))
