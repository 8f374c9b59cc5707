"""FLOPs a second of the contrastive step of contrastive.py, through `mmexp train`, against the best product of two matrices.

The step's FLOPs are those that PyTorch counts in it, so that what is spared is not counted. The product is of square matrices in
the precision in which the step computes on this machine, and the best of several sizes.
"""

import json
from itertools import count
from pathlib import Path

from contest import Contest, Goal, Numbers
from contrastive import our_overrides
from work.commands import mmexp_train, printed
from work.reference import write_model, write_table

from mmexp.training.hardware import Hardware

STEP, PRODUCT = "mmexp, contrastive step", "best matrix product"
PRODUCTS = Path(__file__).parent / "work" / "product.py"


def contest(folder: Path, short: bool) -> Contest:
    """Return the step and the product; the short form takes 6 steps of 16 rows."""
    batch, steps = (16, 6) if short else (128, 23)
    model, table = write_model(folder / "model"), write_table(folder / "rows", batch * steps)
    numbers = count()

    def step() -> Numbers:
        overrides = [*our_overrides(model, table, batch), f"budget.steps={steps}", "evaluate=false"]
        run = mmexp_train(folder / f"run-{next(numbers)}", *overrides)
        flops = run["train_flops"] / run["steps"] / batch
        return {"GFLOP/s": flops * run["samples_per_second"] / 1e9, "samples/s": run["samples_per_second"]}

    def product() -> Numbers:
        precision = Hardware().chosen_precision()
        sizes = [512] if short else [1024, 2048, 4096]
        return {"GFLOP/s": json.loads(printed([PRODUCTS, precision, *sizes], folder)), "samples/s": 0.0}

    # Steps as short as those of the short form are mostly something else than products.
    goals = [Goal(STEP, PRODUCT, 0.1 if short else 0.6)]
    return Contest("What a step makes of the machine", "GFLOP/s", {STEP: step, PRODUCT: product}, goals)
