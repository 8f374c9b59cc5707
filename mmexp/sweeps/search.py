"""What is asked of a search, and what its runs have to know of it. No Optuna here: every run looks whether it is a trial."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mmexp.errors import RequestError, nearest

SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("none", "median", "halving", "hyperband")
WHOLE = 100


@dataclass(frozen=True)
class Settings:
    """`hydra.sweeper` of a search. Trials are counted over all processes and calls; `jobs` of them are launched at a time.

    Values are reported at per cent of a run's own budget, so that runs of other batch sizes can be compared. Nothing is
    pruned before `first_check`, a share of the budget. `startup` is how many runs are drawn before TPE proposes, and end
    before a median is taken; of `factor` runs that meet one goes on, in halving and hyperband.
    """

    sampler: str = "tpe"
    pruner: str = "halving"
    trials: int | None = 30
    seed: int = 0
    metric: str | None = None
    storage: str | None = None
    jobs: int = 1
    startup: int = 5
    first_check: float = 0.1
    factor: int = 2

    def check(self) -> None:
        """Raise RequestError for the first wrong value."""
        for key, value, known in (("sampler", self.sampler, SAMPLERS), ("pruner", self.pruner, PRUNERS)):
            if value not in known:
                raise RequestError(f"hydra.sweeper.{key}={value} is not one.{nearest(value, known)}")
        least = {"trials": 1, "jobs": 1, "startup": 1, "seed": 0, "factor": 2}
        for key, low in least.items():
            value = getattr(self, key)
            if not (isinstance(value, int) and value >= low) and (key, value) != ("trials", None):
                raise RequestError(f"hydra.sweeper.{key} must be a whole number of at least {low}, not {value!r}.")
        if not isinstance(self.first_check, float | int) or not 0 < self.first_check < 1:
            raise RequestError(
                f"hydra.sweeper.first_check is a share of the budget, between 0 and 1, not {self.first_check!r}."
            )
        if self.metric and not self.metric.startswith("val/"):
            raise RequestError(
                f"hydra.sweeper.metric={self.metric}: runs are compared on val. Name a metric of it, val/..."
            )


@dataclass(frozen=True)
class Search:
    """What a run, and Optuna's pruner in it, have to know; `search` in `sweep.json`. The meanings are those of Settings."""

    name: str
    storage: str
    metric: str
    direction: Literal["minimize", "maximize"]
    pruner: str
    startup: int
    first_check: float
    factor: int

    def told(self) -> dict[str, Any]:
        """Return it as it stands in `sweep.json`."""
        return asdict(self)


def search_of(directory: Path) -> Search | None:
    """Return the search that the run in `directory` is a trial of, None for any other run."""
    file = directory.parent / "sweep.json"
    if not (directory.name.isdigit() and file.is_file()):
        return None
    told = json.loads(file.read_text()).get("search")
    return Search(**told) if told else None
