"""What a search came to: its best trials, how much of the training was saved, and the command that repeats the best."""

import shlex
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmexp.runs.table import empty_table, heading, shown
from mmexp.sweeps.search import Search
from mmexp.sweeps.space import Space

_BEST = 5


def show(asked: Search, space: Space, ended: Sequence[FrozenTrial]) -> None:
    """Print the best trials, what was spent, and the command of the best."""
    best = ranked(asked, ended)
    console = Console(markup=False)
    if best:
        console.print(best_table(asked, space, best[:_BEST]))
    console.print(spent(space, ended), highlight=False)
    if best:
        own = [override for override in space.overrides(best[0].params) if not override.startswith("sweep.")]
        command = shlex.join(["mmexp", "train", *own])
        console.print(f"best: {command}", soft_wrap=True, highlight=False)


def ranked(asked: Search, ended: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that ran to their end, the best first."""
    whole = [trial for trial in ended if trial.state == TrialState.COMPLETE]
    return sorted(whole, key=lambda trial: trial.value or 0.0, reverse=asked.direction == "maximize")


def best_table(asked: Search, space: Space, best: Sequence[FrozenTrial]) -> Table:
    """Return a table with a row for each trial: its choices and its value."""
    table = empty_table()
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    for key in space.searched:
        table.add_column(Text(key), overflow="fold")
    split, _, metric = asked.metric.rpartition("/")
    table.add_column(Text(f"{split}\n").append(heading(metric)), justify="right", no_wrap=True)
    for trial in best:
        choices = (_brief(trial.params[key]) for key in space.searched)
        table.add_row(str(trial.number), *map(Text, choices), shown(asked.metric, trial.value, unit=False))
    return table


def spent(space: Space, ended: Sequence[FrozenTrial]) -> str:
    """Return how the trials ended, and their training steps against those of the whole grid or of the same trials unpruned."""
    states = [trial.state for trial in ended]
    names = {TrialState.COMPLETE: "ran to the end", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    counts = ", ".join(f"{states.count(state)} {name}" for state, name in names.items() if state in states)
    steps = [trial.user_attrs["steps"] for trial in ended if all(trial.user_attrs.get("steps", [None]))]
    if not steps:
        return f"{len(ended)} trials: {counts}"
    done, whole = sum(one for one, _ in steps), sum(total for _, total in steps)
    combinations = space.combinations()
    if combinations and combinations >= len(ended):
        whole, of = round(whole / len(steps) * combinations), f"the grid of {combinations}"
    else:
        of = "the same trials unpruned"
    return f"{len(ended)} trials: {counts}; {done:,} training steps, {done / whole:.0%} of {of}"


def _brief(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
