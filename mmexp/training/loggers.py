"""Experiment loggers, as factories that know the run."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger


@dataclass(frozen=True)
class RunFacts:
    """What a logger may tell of a run: where it is, its name, the sweep it belongs to, its choices and whole config.

    `before` are the rows of the history of a run that goes on, up to where it does.
    """

    directory: Path
    name: str
    sweep: str | None
    choices: dict[str, str]
    config: dict[str, Any]
    before: list[dict[str, str]] = field(default_factory=list)


def csv(run: RunFacts) -> Logger:
    """`metrics.csv` in the run directory."""
    logger = CSVLogger(run.directory, name="", version="", flush_logs_every_n_steps=1)
    if run.before:
        # Lightning's own begins an empty file.
        written: Any = logger.experiment
        written.metrics = list(run.before)
        logger.save()
    return logger


def tensorboard(run: RunFacts) -> Logger:
    """Event files below `tensorboard/`."""
    return TensorBoardLogger(run.directory, name="tensorboard", version="")


def wandb(
    run: RunFacts,
    project: str = "mmexp",
    entity: str | None = None,
    mode: Literal["auto", "online", "offline", "disabled"] = "auto",
    tags: Sequence[str] = (),
) -> Logger:
    """A W&B run below `wandb/`: grouped by the sweep, tagged by choice. Online only where asked for, or with a key set."""
    if mode == "auto":
        mode = "online" if os.environ.get("WANDB_API_KEY") else "offline"
    logger = WandbLogger(
        name=run.name,
        project=project,
        entity=entity,
        save_dir=str(run.directory),
        group=run.sweep,
        job_type=run.choices.get("task"),
        tags=[*(f"{group}={choice}" for group, choice in sorted(run.choices.items())), *tags],
        config=run.config,
        mode=mode,
        reinit="finish_previous",
    )
    return logger


def finish(loggers: Sequence[Logger], failed: bool) -> None:
    """Close every logger with the run's own status: W&B would otherwise merge the runs of a sweep, or call them done."""
    for logger in loggers:
        logger.finalize("failed" if failed else "success")
        if isinstance(logger, WandbLogger):
            logger.experiment.finish(exit_code=int(failed))
