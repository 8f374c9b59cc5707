"""A search from its command line to its closing table."""

import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.trial import FrozenTrial

from mmexp.compose import composed
from mmexp.config import check
from mmexp.errors import RequestError
from mmexp.runs.holding import hold
from mmexp.runs.parents import PASSING
from mmexp.runs.sweep import rows_of
from mmexp.sweeps.book import refuse_other_kind
from mmexp.sweeps.ending import Ended
from mmexp.sweeps.launching import Planned, launch
from mmexp.sweeps.search import Search, Settings
from mmexp.sweeps.search_book import write_search
from mmexp.sweeps.search_table import show
from mmexp.sweeps.space import Space, read_space
from mmexp.sweeps.study import open_study
from mmexp.sweeps.summary import Summary
from mmexp.sweeps.trials import PATIENCE, Trials
from mmexp.sweeps.untried import Untried

Rows = list[dict[str, Any]]
_VALIDATIONS = "checkpoint.validate_every_epochs"
_VALIDATIONS_BY_STEPS = "checkpoint.validate_every_steps"


def search(settings: Settings, words: Sequence[str], loader: Any, config: Any, launcher: Any) -> Rows:
    """Run the trials that are missing; return the rows of those that ended. Raises RequestError, Ended."""
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(list(words))
    space, directory = completed(read_space(overrides), settings), Path(config.hydra.sweep.dir)
    compose = partial(checked, loader, config)
    if settings.sampler == "grid" or not settings.trials:
        check_finite(space)
    # Every choice once, so that a wrong one is told before anything runs.
    examples = [compose(space.overrides(chosen)) for chosen in space.examples()]
    asked = asked_of(settings, directory, examples[0])
    most = min(one for one in (settings.trials, space.combinations()) if one)
    directory.mkdir(parents=True, exist_ok=True)
    # Of two processes that begin at once one makes the study.
    with hold(directory, PATIENCE):
        refuse_other_kind(directory, search=True)
        study = open_study(asked)
        remember(study, space, asked)
    sampler = partial(Untried, settings.sampler, space, seed=settings.seed, startup=settings.startup)
    trials = Trials(study, directory, space, sampler, most, alone=not settings.storage)
    print(opening(asked, settings, most, study.get_trials(deepcopy=False)), flush=True)
    command = shlex.join(["mmexp", "train", "-m", *config.hydra.overrides.hydra, *words])
    write = partial(write_search, directory, command, asked, most, space, compose)
    run_all(trials, settings.jobs, partial(launch, launcher, directory), write)
    ended = [trial for trial in study.get_trials() if trial.state.is_finished()]
    Summary.asked = {str(trial.number) for trial in ended}
    show(asked, space, ended)
    return [row for row in rows_of(directory) if row["number"] in Summary.asked]


def run_all(
    trials: Trials,
    jobs: int,
    launch: Callable[[Sequence[Planned]], Rows],
    write: Callable[[list[FrozenTrial]], None],
) -> None:
    """Take trials and launch them, `jobs` at a time, until there are enough.

    What a signal finds ended is told before it ends the search.
    """
    while True:
        with ExitStack() as claims:
            planned = trials.take(jobs, claims, write)
            if not planned:
                return
            try:
                trials.tell(launch(planned))
            except Ended:
                trials.tell(row for row in rows_of(trials.directory) if row["status"] == "completed")
                raise


def check_finite(space: Space) -> None:
    """Raise RequestError where not every combination can be counted."""
    endless = [key for key, one in space.searched.items() if Space({}, {key: one}).combinations() is None]
    if endless:
        raise RequestError(
            f"{endless[0]}: an interval has no end of values, so that there is no grid of them. Give a list or a range, "
            "or set hydra.sweeper.sampler=random hydra.sweeper.trials=30."
        )


def completed(space: Space, settings: Settings) -> Space:
    """Return the space with what a search needs of its runs: validations often enough, and its metric for the checkpoint."""
    fixed = dict(space.fixed)
    if settings.pruner != "none" and not {_VALIDATIONS, _VALIDATIONS_BY_STEPS} & set(fixed):
        fixed[_VALIDATIONS] = f"{_VALIDATIONS}=1"
    if settings.metric:
        fixed["checkpoint.monitor"] = f"checkpoint.monitor={settings.metric}"
    return Space(fixed, space.searched)


def checked(loader: Any, config: Any, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the checked configuration of one run. Raises RequestError."""
    plain, choices = composed(loader, config, overrides)
    check(plain, choices)
    return plain


def asked_of(settings: Settings, directory: Path, first: dict[str, Any]) -> Search:
    """Return what the runs have to know. `first` is the configuration of one of them, which says what they are measured by."""
    # Only now torch: what a run is measured by depends on its objectives and on the data.
    from mmexp import build

    metric = settings.metric or first["checkpoint"]["monitor"] or build.monitored_by(first)
    key = "hydra.sweeper.metric" if settings.metric else "checkpoint.monitor"
    mode = build.check_searched(first, key, metric)
    return Search(
        name=directory.name,
        storage=settings.storage or f"sqlite:///{(directory / 'optuna.db').resolve()}",
        metric=metric,
        direction="minimize" if mode == "min" else "maximize",
        pruner=settings.pruner,
        startup=settings.startup,
        first_check=settings.first_check,
        factor=settings.factor,
    )


def remember(study: optuna.Study, space: Space, asked: Search) -> None:
    """Note in a new study what it is about. Raises RequestError where an earlier command of the name searched elsewhere."""
    about = {key: text for key, text in space.told().items() if key.partition(".")[0] not in PASSING}
    about["metric"] = f"metric={asked.metric}"
    before = study.user_attrs.get("about")
    if before is None:
        study.set_user_attr("about", about)
        return
    changed = [key for key in {**before, **about} if before.get(key) != about.get(key)]
    if changed:
        was, now = (", ".join(one.get(key, f"no {key}") for key in changed) for one in (before, about))
        raise RequestError(
            f"sweep.name={asked.name}: this search was begun with {was}, and is now asked with {now}. "
            "What was learned there does not hold here: choose another sweep.name, or ask as before."
        )


def opening(asked: Search, settings: Settings, most: int, known: Sequence[FrozenTrial]) -> str:
    """Return what is about to happen."""
    ended = sum(trial.state.is_finished() for trial in known)
    open_, better = len(known) - ended, "more" if asked.direction == "maximize" else "less"
    counts = [f"{ended} ended"] * (ended > 0) + [f"{open_} under way or broken off"] * (open_ > 0)
    told = f"search {asked.name}: {most} trials{''.join(f', {one}' for one in counts)}"
    return f"{told}; {settings.sampler}, pruner {settings.pruner}; by {asked.metric}, of which {better} is better"
