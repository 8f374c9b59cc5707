"""A step of distillation: the student alone, with a teacher whose words are kept on disk, and with one that speaks live.

The default vision and text transformers are student and teacher, by `mmexp train`, on the bundled data.
"""

from functools import partial
from itertools import count
from pathlib import Path

from contest import Contest, Goal, Numbers
from work.commands import mmexp_train

VIEWS = ("augmentation=none", "variation.views=1", "variation.seed=0", "fusion=none", "evaluate=false")
STUDENT = ("encoder=vit", "checkpoint.validate_every_epochs=1000")
WAYS = {
    "kept teacher": ("objective=[contrastive,distill]", "task=distill"),
    "student alone": ("objective=contrastive", "task=pretrain"),
    "live teacher": ("objective=[contrastive,distill]", "task=distill", "cache.enabled=false"),
}


def contest(folder: Path, short: bool) -> Contest:
    """Return the three; the short form takes 6 steps of 8 rows."""
    small = ("data.batch_size=8", "data.styles=[blob]") if short else ()
    mmexp_train(folder / "teacher", "fusion=none", "objective=contrastive", "budget.steps=1", "evaluate=false", *small)
    numbers, steps = count(), f"budget.steps={6 if short else 53}"
    ways = {name: partial(step, folder, numbers, (*choices, steps, *small)) for name, choices in WAYS.items()}
    goals = [Goal("kept teacher", "student alone", 1 / 1.1)]
    return Contest("A step of distillation", "ms", ways, goals, less_is_better=True)


def step(folder: Path, numbers: count, choices: tuple[str, ...]) -> Numbers:
    """Return the milliseconds of a step after the warm-up."""
    teacher = (f"teacher={folder}/teacher/run",) if "task=distill" in choices else ()
    run = mmexp_train(folder / f"run-{next(numbers)}", *VIEWS, *STUDENT, *choices, *teacher)
    return {"ms": 1000 * run["samples_seen"] / run["steps"] / run["samples_per_second"]}
