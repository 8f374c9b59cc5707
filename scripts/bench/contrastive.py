"""Samples a second of contrastive training: `mmexp train` against open_clip's own trainer, from the same weights and rows.

ViT-tiny/8 at 64 pixels with a text transformer of context 77, batches of 128 (see work/reference.py), each by its real command
line. Steps of the warm-up do not count; waiting for data does.
"""

from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

from contest import Contest, Goal, Numbers
from work.commands import mmexp_train, open_clip_train, rates
from work.reference import MODEL, write_model, write_table

OURS, PEER, PEER_BF16 = "mmexp", "open_clip_train, fp32", "open_clip_train, bf16"


def contest(folder: Path, short: bool) -> Contest:
    """Return the three trainers; the short form takes 6 steps of 16 rows."""
    batch, steps = (16, 6) if short else (128, 23)
    model, table = write_model(folder / "model"), write_table(folder / "rows", batch * steps)
    numbers = count()

    def ours() -> Numbers:
        return {"samples/s": of_mmexp(folder / f"ours-{next(numbers)}", model, table, batch, steps)}

    def peer(precision: str) -> Numbers:
        log = open_clip_train(
            folder / f"peer-{next(numbers)}", *peer_arguments(model, table, batch), "--precision", precision
        )
        return {"samples/s": rates(log)}

    ways: dict[str, Callable[[], Numbers]] = {
        OURS: ours,
        PEER: partial(peer, "fp32"),
        PEER_BF16: partial(peer, "amp_bf16"),
    }
    goals = [Goal(OURS, PEER, 2.7), Goal(OURS, PEER_BF16, 2.1)]
    return Contest("Contrastive training, ViT-tiny/8 at 64 pixels", "samples/s", ways, goals, bf16=[PEER_BF16])


def peer_arguments(model: Path, table: Path, batch: int) -> list[str]:
    """Return what open_clip's trainer is told, its defaults but for the work itself."""
    told = {"model": f"local-dir:{model}", "train-data": table, "batch-size": batch, "epochs": 1, "workers": 2}
    return [str(word) for name, value in told.items() for word in (f"--{name}", value)]


def our_overrides(model: Path, table: Path, batch: int) -> list[str]:
    """Return the same work as `mmexp train` is told it."""
    towers = [f"encoder.{name}.name=local-dir:{model}" for name in ("image", "text")]
    data = [f"data.train={table}", "data.columns.image=filepath", "data.columns.text=title", "data.val_fraction=0"]
    return [
        "encoder=open_clip",
        *towers,
        "fusion=none",
        "objective=contrastive",
        f"objective.contrastive.embed_dim={MODEL['embed_dim']}",
        "objective.contrastive.temperature=0.07",
        "data=table",
        *data,
        f"data.batch_size={batch}",
    ]


def of_mmexp(folder: Path, model: Path, table: Path, batch: int, steps: int) -> float:
    """Return the samples a second of a run of `mmexp train` after its warm-up."""
    overrides = our_overrides(model, table, batch)
    return mmexp_train(folder, *overrides, f"budget.steps={steps}", "evaluate=false")["samples_per_second"]
