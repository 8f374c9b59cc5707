"""Seconds of training until a model finds held-out pairs: `mmexp train` with patch dropout against open_clip's own trainer.

The work of contrastive.py (see work/reference.py): 3,072 rows to learn from, 512 to be found, and as many epochs for each as it
needs for a recall at 1 of 0.64, the mean over both directions; each schedule ends with its run. open_clip's trainer has its
defaults, but for a warm-up of 10,000 steps, in which it would not learn, and its learning rate. Validation is not counted.
"""

from itertools import count
from pathlib import Path

from contest import Contest, Goal, Numbers
from contrastive import our_overrides, peer_arguments
from work.commands import mmexp_train, open_clip_train, recall, seconds
from work.reference import hold_out, write_model, write_table

OURS, WHOLE, PEER = "mmexp, half the patches", "mmexp, all patches", "open_clip_train"
EPOCHS = {OURS: 8, WHOLE: 8, PEER: 8}
RATE, WARM_UP = 1e-3, 20
DROPPING = "encoder.image.patch_dropout={from: 0.5, to: 0.0, end: 0.9, shape: step}"


def contest(folder: Path, short: bool) -> Contest:
    """Return the three; the short form takes one epoch of 96 rows, in which nothing is learned."""
    batch, rows, held = (16, 96, 32) if short else (128, 3072, 512)
    model, table = write_model(folder / "model"), write_table(folder / "rows", rows + held)
    train, val = hold_out(table, held)
    numbers = count()

    def ours(way: str, *more: str) -> Numbers:
        epochs = 1 if short else EPOCHS[way]
        told = [f"data.val={val}", f"budget.epochs={epochs}", f"checkpoint.validate_every_epochs={epochs}"]
        told += [f"optimizer.lr={RATE}", f"schedule.warmup_steps={WARM_UP}", *more]
        run = mmexp_train(folder / f"ours-{next(numbers)}", *our_overrides(model, train, batch), *told)
        found = [run["metrics"][f"val/{one}_r1"] for one in ("image_to_text", "text_to_image")]
        return {"s": run["train_seconds"], "recall at 1": sum(found) / 2}

    def peer() -> Numbers:
        epochs = 1 if short else EPOCHS[PEER]
        told = ["--val-data", str(val), "--epochs", str(epochs), "--lr", str(RATE), "--warmup", str(WARM_UP)]
        log = open_clip_train(folder / f"peer-{next(numbers)}", *peer_arguments(model, train, batch), *told)
        return {"s": seconds(log), "recall at 1": recall(log)}

    ways = {OURS: lambda: ours(OURS, DROPPING), WHOLE: lambda: ours(WHOLE), PEER: peer}
    return Contest("Time to find held-out pairs", "s", ways, [Goal(OURS, PEER, 5.0)], less_is_better=True)
