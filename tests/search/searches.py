"""Searches without training: a stand-in for the launcher computes what a run would have measured."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution

from mmexp.sweeps.search import WHOLE, Search
from mmexp.sweeps.space import Space
from mmexp.sweeps.study import open_study
from mmexp.sweeps.trials import Trials
from mmexp.sweeps.untried import Untried

GRID = Space({"x": "x=1"}, {"a": CategoricalDistribution(list("012345")), "b": CategoricalDistribution(list("0123"))})
LINE = Space({}, {"a": FloatDistribution(0, 6)})


def asked(folder: Path, pruner: str = "none", **changes) -> Search:
    settings = {"startup": 3, "first_check": 0.1, "factor": 3, "direction": "maximize", **changes}
    return Search("search", f"sqlite:///{folder / 'optuna.db'}", "val/score", pruner=pruner, **settings)


def trials(
    folder: Path,
    space: Space = GRID,
    sampler: str = "tpe",
    most: int = 8,
    alone: bool = True,
    directory: Path | None = None,
    in_memory: bool = False,
    **changes,
) -> Trials:
    makes = partial(Untried, sampler, space, seed=0, startup=3)
    study = optuna.create_study(direction="maximize") if in_memory else open_study(asked(folder, **changes))
    return Trials(study, directory or folder, space, makes, most, alone)


def take(search: Trials, count: int = 1) -> tuple[list, ExitStack]:
    claims = ExitStack()
    return search.take(count, claims, lambda _: None), claims


def score(overrides) -> float:
    """The closer to a=4, b=1 the better."""
    chosen = dict(override.split("=") for override in overrides)
    return -abs(float(chosen["a"]) - 4) - abs(float(chosen.get("b", 1)) - 1) / 8


def report(search: Trials, number: int, value: float, done: int = WHOLE) -> None:
    study = search.study
    study._storage.set_trial_intermediate_value(study.get_trials()[number]._trial_id, done, value)


def launch(search: Trials, planned) -> list[dict]:
    for run in planned:
        report(search, run.number, score(run.overrides))
    return [{"number": run.number, "status": "completed"} for run in planned]
