"""The trials of a search: asked for, taken up again where their process died, and told how they ended."""

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna import Study
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from mmexp.runs.holding import held, hold
from mmexp.runs.state import run_of
from mmexp.sweeps.launching import DIED, Planned
from mmexp.sweeps.space import Space

PATIENCE = 600.0


@dataclass(frozen=True)
class Trials:
    """What this process does to the study in `directory`, beside others that do the same.

    A trial's number is that of its run and directory. While a process has it run, it holds a lock of its own, which the
    system frees: what is running in the study and held by nobody was broken off.
    """

    study: Study
    directory: Path
    space: Space
    sampler: Callable[[list[dict[str, Any]]], BaseSampler]
    most: int
    # Whether the study is kept in `directory`, so that nobody elsewhere has a part in it.
    alone: bool = True

    def take(self, count: int, claims: ExitStack, written: Callable[[list[FrozenTrial]], None]) -> list[Planned]:
        """Return up to `count` trials to run, held by `claims`: those broken off, then new ones. `written` sees all before."""
        with hold(self.directory, PATIENCE):
            taken = self._taken_up()[:count]
            while len(taken) < count and len(self.study.get_trials(deepcopy=False)) < self.most:
                taken.append(self._ask())
            for trial in taken:
                claims.enter_context(hold(self._claim(trial.number)))
            written(self.study.get_trials())
        return [Planned(trial.number, tuple(self.space.overrides(self._chosen(trial)))) for trial in taken]

    def tell(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Tell the study how runs ended: at the value of their best validation, pruned or failed; others are left running."""
        running = {trial.number: trial for trial in self._running()}
        for row in rows:
            trial = running.get(int(row["number"]))
            if trial and row["status"] in ("completed", "failed"):
                value, state = self._outcome(trial, row)
                self.study.tell(trial.number, value, state, skip_if_finished=True)

    def _outcome(self, trial: FrozenTrial, row: Mapping[str, Any]) -> tuple[float | None, TrialState]:
        values = [value for value in trial.intermediate_values.values() if math.isfinite(value)]
        if row["status"] == "failed" or not values:
            return None, TrialState.FAIL
        if str(row.get("stopped", "")).startswith("pruned"):
            return None, TrialState.PRUNED
        best = max if self.study.direction == StudyDirection.MAXIMIZE else min
        return best(values), TrialState.COMPLETE

    def _ask(self) -> FrozenTrial:
        self.study.sampler = self.sampler([trial.params for trial in self.study.get_trials(deepcopy=False)])
        return self._frozen(self.study.ask(dict(self.space.searched)).number)

    def _chosen(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return the choices of a trial; a process that died while it asked may have left some open."""
        if trial.params.keys() >= self.space.searched.keys():
            return {key: trial.params[key] for key in self.space.searched}
        live = Trial(self.study, trial._trial_id)
        return {key: live._suggest(key, distribution) for key, distribution in self.space.searched.items()}

    def _taken_up(self) -> list[FrozenTrial]:
        """Return the trials that were broken off; tell those of them whose run did end, and only the study does not know."""
        broken = [trial for trial in self._running() if self._broken_off(trial)]
        rows = {one.number: run_of(self.directory / str(one.number)) | {"number": one.number} for one in broken}
        self.tell(row for row in rows.values() if row.get("error") != DIED)
        return [one for one in broken if one.number in {left.number for left in self._running()}]

    def _broken_off(self, trial: FrozenTrial) -> bool:
        """Say whether nobody works on a running trial. One that another machine keeps elsewhere has no lock here."""
        claim = self._claim(trial.number)
        return (self.alone or claim.is_dir()) and not held(claim)

    def _running(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _frozen(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]

    def _claim(self, number: int) -> Path:
        return self.directory / ".trials" / str(number)
