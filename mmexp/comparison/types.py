"""What runs side by side come to: the runs, which choice matters, which differences are more than luck."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

Verdict = Literal["better", "worse", "too close to call"]


@dataclass(frozen=True)
class Run:
    """One run as the comparison reads it. `directory` is None for a run that is known from W&B alone.

    `name` is short and unique among those compared; `facts` is `run.json`, `metrics` the final numbers, `config` the resolved
    configuration, `choices` maps each group or key that differs among the runs compared to what was chosen.
    """

    name: str
    directory: Path | None
    facts: Mapping[str, Any]
    metrics: Mapping[str, float]
    config: Mapping[str, Any]
    choices: Mapping[str, str] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """Return the seed by which runs are paired."""
        return int(self.facts.get("seed", 0))

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """Return the rows of `metrics.csv`, each with what was logged at its `step`."""
        path = self.directory / "metrics.csv" if self.directory else None
        if path is None or not path.is_file():
            return []
        with path.open() as stream:
            return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(stream)]


@dataclass(frozen=True)
class Configuration:
    """Runs that differ in their seed alone: the mean of the metric with the interval (`low`, `high`) of that mean.

    `selected` is the mean of the metric that configurations are chosen by.
    """

    choices: Mapping[str, str]
    runs: Sequence[Run]
    mean: float
    low: float | None
    high: float | None
    selected: float | None = None


@dataclass(frozen=True)
class Difference:
    """`first` minus `second` on the metric, over `pairs` that share all but this: the mean, its interval, and what to think.

    `about` is the group or key compared (its two values in `first` and `second`), or `configuration` for two whole ones.
    `p` is that of the paired test, `corrected` after Holm over all differences of the table. The verdict is on `first`.
    A pair is a seed, its blocks averaged; a block where there are fewer than three seeds (`unit`).
    """

    about: str
    first: str
    second: str
    pairs: int
    mean: float
    low: float | None
    high: float | None
    p: float | None
    corrected: float | None
    verdict: Verdict
    unit: Literal["seed", "block"] = "seed"


@dataclass(frozen=True)
class Importance:
    """Which `share` (0 to 1) of the variance of the metric over runs goes with the choice of a group, and how sure that is."""

    group: str
    share: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """The runs side by side on one metric. `fronts` maps each cost to the names of the runs that none beats in both.

    What is best, of runs, configurations and fronts, is chosen by `selected`: the metric on `val` where all have that, so that
    `metric`, of a test set, is only reported. `rises`: more of it is better.
    `notes` are plain sentences on what the statistics leave out, and why.
    """

    metric: str
    rises: bool
    runs: Sequence[Run]
    configurations: Sequence[Configuration] = ()
    importance: Sequence[Importance] = ()
    differences: Sequence[Difference] = ()
    fronts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    selected: str = ""

    def __post_init__(self) -> None:
        """Choose by the metric itself where nothing else is said."""
        object.__setattr__(self, "selected", self.selected or self.metric)
