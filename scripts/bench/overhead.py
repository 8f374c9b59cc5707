"""What a step costs beside the work itself: `mmexp train` against a hand-written loop on the same model, rows and optimizer.

Three sizes of step, about 3, 20 and 100 ms; see work/hand_loop.py for the loop. Both clip gradients at a length of 1.
"""

import json
from functools import partial
from itertools import count
from pathlib import Path

from contest import Contest, Goal, Numbers
from work.commands import mmexp_train, printed

HAND = Path(__file__).parent / "work" / "hand_loop.py"
SAME = (
    *("encoder=student", "fusion=none", "objective=contrastive", "augmentation=none", "evaluate=false"),
    *("optimizer.clip_norm=1", "checkpoint.validate_every_epochs=1000"),
)
TINY = (
    "encoder.image.image_size=16",
    "encoder.image.stem=[]",
    "encoder.image.options.depth=1",
    "encoder.text.depth=1",
    "encoder.text.dim=48",
    "encoder.image.options.embed_dim=48",
)
SIZES = {
    "3 ms": (600, 1 / 1.3, ("data.batch_size=4", *TINY)),
    "20 ms": (200, 1 / 1.08, ("data.batch_size=8",)),
    "100 ms": (60, 1 / 1.03, ("data.batch_size=192",)),
}


def contest(folder: Path, short: bool) -> Contest:
    """Return both ways at each size; the short form has the second alone."""
    numbers, ways, goals = count(), {}, []
    for size, (steps, goal, overrides) in SIZES.items():
        if short and size != "20 ms":
            continue
        steps = 30 if short else steps
        hand, ours = f"by hand, {size}", f"mmexp, {size}"
        ways[hand] = partial(by_hand, folder, steps, [*SAME, *overrides])
        ways[ours] = partial(by_mmexp, folder, numbers, steps, [*SAME, *overrides])
        goals.append(Goal(ours, hand, goal))
    return Contest("A step of training and what is around it", "ms", ways, goals, less_is_better=True)


def by_hand(folder: Path, steps: int, overrides: list[str]) -> Numbers:
    """Return the milliseconds of a step of the hand-written loop."""
    return json.loads(printed([HAND, steps, *overrides, f"budget.steps={steps + 3}"], folder))


def by_mmexp(folder: Path, numbers: count, steps: int, overrides: list[str]) -> Numbers:
    """Return the milliseconds of a step of `mmexp train`, its logging and checkpoints on."""
    run = mmexp_train(folder / f"overhead-{next(numbers)}", *overrides, f"budget.steps={steps + 3}")
    return {"ms": 1000 * run["samples_seen"] / run["steps"] / run["samples_per_second"]}
