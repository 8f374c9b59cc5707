"""What was asked for, and what stands ready to do it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
from torch.utils.data import DataLoader

from mmexp.continuation import Continuation
from mmexp.frozen import Keeping
from mmexp.tasks.base import Task
from mmexp.training.budget import Length
from mmexp.training.progress import Stopwatch
from mmexp.types import Batch, DataSource
from mmexp.weights import Loaded


@dataclass(frozen=True)
class Request:
    """What was asked for: the whole configuration, where it goes, and how it was put.

    Of a run of a sweep, `sweep` is the name and `sweeper` the process that launched it.
    """

    config: Mapping[str, Any]
    directory: Path
    choices: dict[str, str]
    overrides: list[str]
    sweep: str | None = None
    sweeper: int | None = None


@dataclass
class Experiment:
    """Everything of a run, built and ready. `length` says which limit of the budget ends it, seconds apart.

    `towers` says of each encoder that came trained whose weights it has, `heads` of objectives on the towers of a dual encoder
    whether their heads start as its projections, `resting` are those, and the fusion, that no loss
    reaches. `continuation` says from where a run goes on, None for a fresh start.
    """

    task: Task
    trainer: L.Trainer
    train: DataLoader[Batch]
    evaluations: dict[str, DataLoader[Batch]]
    stopwatch: Stopwatch
    source: DataSource
    loaded: Loaded | None
    towers: Mapping[str, str] = field(default_factory=dict)
    heads: Mapping[str, str] = field(default_factory=dict)
    keeping: Keeping | None = None
    length: Length = field(default_factory=lambda: Length(None, "steps"))
    resting: Sequence[str] = ()
    continuation: Continuation | None = None

    @property
    def start(self) -> Path | None:
        """The checkpoint that the run goes on from, None for a fresh start."""
        return self.continuation.checkpoint if self.continuation else None
