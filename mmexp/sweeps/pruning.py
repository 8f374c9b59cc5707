"""A run that is a trial of a search tells its validations, and ends where the search expects nothing more of it."""

import math
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from mmexp.errors import RequestError, nearest
from mmexp.pace import Pace
from mmexp.sweeps.search import WHOLE, Search, search_of


class Pruning(Callback):
    """Reports the metric of `search` after each validation as trial `number`, and stops the run when Optuna's pruner says so.

    All goes through the study's storage, so that it does not matter which process or machine runs the trial. A trial that
    is over is left alone: its run is being repeated by hand.
    """

    def __init__(self, search: Search, number: int):
        self.search, self.number = search, number
        self.stopped: str | None = None
        self._trial: Any = None

    def on_fit_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Open the study, in one process of several."""
        if trainer.is_global_zero:
            self._trial = open_trial(self.search, self.number)

    def on_validation_end(self, trainer: L.Trainer, task: Any) -> None:
        """Report, and stop in all processes where the pruner says so."""
        metrics = trainer.callback_metrics
        if self.search.metric not in metrics:
            raise RequestError(
                f"'{self.search.metric}', by which this search compares, is not measured in this run. "
                f"Set hydra.sweeper.metric.{nearest(self.search.metric, [name for name in metrics if name.startswith('val/')])}"
            )
        value, step = float(metrics[self.search.metric]), trainer.global_step
        stops = self._trial is not None and self._told(value, step, task.pace)
        if trainer.strategy.broadcast(self._trial is not None and not self._measured()):
            raise FloatingPointError(
                f"{self.search.metric}, by which this search compares, is {value} at step {step}, and no validation before "
                "had a finite value. A lower optimizer.lr or a bound on the data's values may help."
            )
        if trainer.strategy.broadcast(stops):
            self.stopped = f"pruned at step {step}: {self.search.metric} {value:.4g}"
            trainer.should_stop = True

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """End at once what was pruned, and died before it had ended."""
        trainer.should_stop = trainer.should_stop or self.stopped is not None

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run has to know."""
        return {"stopped": self.stopped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.stopped = state["stopped"]

    def _measured(self) -> bool:
        """Return whether some validation of the trial had a finite value."""
        values = self._trial.storage.get_trial(self._trial._trial_id).intermediate_values.values()
        return any(map(math.isfinite, values))

    def _told(self, value: float, step: int, pace: Pace) -> bool:
        """Report and return whether to stop. At the end there is nothing left to save."""
        done = round(WHOLE * pace.share(step))
        if done not in self._trial.storage.get_trial(self._trial._trial_id).intermediate_values:
            self._trial.report(value, done)
        self._trial.set_user_attr("steps", [step, pace.total_steps])
        return done < WHOLE and (not math.isfinite(value) or self._trial.should_prune())


def open_trial(search: Search, number: int) -> Any:
    """Return the running trial of a number, None where it is over."""
    from optuna.samplers import RandomSampler
    from optuna.trial import Trial, TrialState

    from mmexp.sweeps.study import open_study

    study = open_study(search)
    # Nothing is asked here, so that what the search samples by does not matter.
    study.sampler = RandomSampler()
    frozen = study.get_trials(deepcopy=False)[number]
    return Trial(study, frozen._trial_id) if frozen.state == TrialState.RUNNING else None


def pruning(directory: Path) -> list[Callback]:
    """Return the callback of the run in `directory`, nothing where it is no trial."""
    search = search_of(directory)
    return [Pruning(search, int(directory.name))] if search else []


def pruned(trainer: L.Trainer) -> str | None:
    """Return why a run was stopped before its end, None where it was not."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return next((one.stopped for one in callbacks if isinstance(one, Pruning)), None)
