"""Seconds of training until a model finds held-out pairs: `mmexp train` in three ways against open_clip's own trainer.

The work of contrastive.py (see work/reference.py): 3,072 rows to learn from, 192 to be found, and as many epochs for each way
as it needs for a recall at 1 of 0.64, the mean over both directions; each schedule ends with its run. open_clip's trainer has
its defaults, but for a warm-up of 10,000 steps, in which it would not learn, and the learning rate, which is ours. Nobody's
pictures are mirrored, for captions tell left from right. Validation is not counted.
"""

from itertools import count
from pathlib import Path

from contest import Contest, Goal, Numbers
from contrastive import our_overrides, peer_arguments
from work.commands import mmexp_train, open_clip_train, recall, seconds
from work.reference import hold_out, write_model, write_table

MUON, HALF, WHOLE = "mmexp, half the patches, Muon", "mmexp, half the patches", "mmexp"
PEER = "open_clip_train"
EPOCHS = {MUON: 2, HALF: 6, WHOLE: 6, PEER: 6}
RATE, WARM_UP = 1e-3, 20
# The last steps see all patches, as the held-out rows are seen.
DROPPING = "encoder.image.patch_dropout={from: 0.5, to: 0.0, end: 0.85, shape: step}"


def contest(folder: Path, short: bool) -> Contest:
    """Return the ways; the short form lets two of them take one epoch of 48 rows, in which nothing is learned."""
    batch, rows, held = (16, 48, 16) if short else (128, 3072, 192)
    model, table = write_model(folder / "model"), write_table(folder / "rows", rows + held)
    train, val = hold_out(table, held)
    numbers = count()

    def ours(way: str, *more: str) -> Numbers:
        epochs = 1 if short else EPOCHS[way]
        told = [f"data.val={val}", f"budget.epochs={epochs}", f"checkpoint.validate_every_epochs={epochs}"]
        told += ["augmentation=none", f"optimizer.lr={RATE}", f"schedule.warmup_steps={WARM_UP}", *more]
        run = mmexp_train(folder / f"ours-{next(numbers)}", *our_overrides(model, train, batch), *told)
        found = [run["metrics"][f"val/{one}_r1"] for one in ("image_to_text", "text_to_image")]
        return {"s": run["train_seconds"], "recall at 1": sum(found) / 2}

    def peer() -> Numbers:
        epochs = 1 if short else EPOCHS[PEER]
        told = [
            "--val-data",
            str(val),
            "--epochs",
            str(epochs),
            "--lr",
            str(RATE),
            "--warmup",
            str(WARM_UP),
            "--precision",
            "fp32",
        ]
        log = open_clip_train(folder / f"peer-{next(numbers)}", *peer_arguments(model, train, batch), *told)
        return {"s": seconds(log), "recall at 1": recall(log)}

    ways = {
        MUON: lambda: ours(MUON, DROPPING, "optimizer=muon", "optimizer.lr=2e-3"),
        HALF: lambda: ours(HALF, DROPPING),
        WHOLE: lambda: ours(WHOLE),
        PEER: peer,
    }
    if short:
        ways = {way: ways[way] for way in (MUON, PEER)}
    # An epoch of 3 steps is mostly their first one.
    goals = [Goal(MUON, PEER, 0.2 if short else 5.0)]
    return Contest("Time to find held-out pairs", "s", ways, goals, less_is_better=True)
