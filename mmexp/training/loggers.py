"""Experiment loggers, as factories that know the run."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from mmexp.errors import RequestError
from mmexp.runs.choices import chosen


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
    from mmexp.training import wandb_run

    for tag in tags:
        if not isinstance(tag, str) or not 1 <= len(tag) <= wandb_run.LONGEST_TAG:
            raise RequestError(
                f"logger.wandb.tags: {tag!r} is no tag: W&B takes texts of 1 to {wandb_run.LONGEST_TAG} characters."
            )
    resume = run.config["resume"]
    return wandb_run.RunLogger(
        name=run.name,
        project=project,
        entity=entity,
        save_dir=str(run.directory),
        group=run.sweep,
        job_type=run.choices.get("task"),
        tags=wandb_run.tags_of(run.choices, tags),
        config=wandb_run.shown_config(run.config),
        mode=wandb_run.chosen_mode(mode),
        id=wandb_run.earlier_id(run.directory if resume == "auto" else Path(resume)) if resume else None,
        settings=wandb_run.settings(),
        reinit="finish_previous",
    )


def runs_of(loggers: Sequence[Logger]) -> list[Any]:
    """Return the W&B runs that have begun."""
    return [one.experiment for one in loggers if isinstance(one, WandbLogger) and one._experiment is not None]


def without_wandb(loggers: Sequence[Logger]) -> list[Logger]:
    """Return the loggers that may hear the final numbers, and those before training: they are no points of W&B's curves."""
    return [one for one in loggers if not isinstance(one, WandbLogger)]


@contextmanager
def told_to(trainer: L.Trainer, loggers: Sequence[Logger]) -> Iterator[None]:
    """Have what is measured told to these loggers alone."""
    whole, trainer.loggers = trainer.loggers, list(loggers)
    try:
        yield
    finally:
        trainer.loggers = whole


def announce(loggers: Sequence[Logger], facts: Mapping[str, Any]) -> None:
    """Begin the W&B run, with the `choices` and, as `run.<key>`, the facts of `run.json`; tell the user where to look.

    Raises RequestError where W&B lets nobody in.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            run = _begun(logger)
            passing = ("choices", "status", "error")
            about = {name: value for name, value in facts.items() if name not in passing}
            run.config.update({"choices": facts["choices"], "run": about}, allow_val_change=True)
            tell_where(run)


def tell_where(run: Any) -> None:
    """Print where a W&B run can be looked at; nothing of one that is disabled."""
    if run.offline:
        print(f"W&B, offline: {Path(run.dir).parent} (wandb leet shows it, wandb sync uploads it)")
    elif run.url:
        print(f"W&B: {run.url}")


def _begun(logger: WandbLogger) -> Any:
    from wandb.errors import Error

    try:
        return logger.experiment
    except Error as error:
        raise RequestError(
            f"logger=wandb: {error} Set WANDB_API_KEY to your key, or logger.wandb.mode=offline."
        ) from error


def conclude(
    loggers: Sequence[Logger], directory: Path, metrics: Mapping[str, float], gallery: Any, facts: Mapping[str, Any]
) -> None:
    """Hand over what is known of a run that completed.

    Args:
        loggers: W&B gets final numbers, the report's gallery and the report; TensorBoard hyperparameters with final numbers.
        directory: that of the run.
        metrics: the final numbers, flat.
        gallery: the pictures of the report.
        facts: those of `run.json`; its choices and overrides are the hyperparameters.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            chosen_values = {key: str(value) for key, value in chosen(facts).items() if not key.startswith("hydra.")}
            logger.log_hyperparams({**chosen_values, "seed": facts["seed"]}, dict(metrics))
    for run in runs_of(loggers):
        from mmexp.training import wandb_run

        wandb_run.conclude(run, directory, metrics, gallery)


def finish(loggers: Sequence[Logger], facts: Mapping[str, Any], failed: bool) -> None:
    """Close every logger with the run's own status: W&B would otherwise merge the runs of a sweep, or call them done.

    What became known of the run since `announce` goes to the summary.
    """
    for logger in loggers:
        logger.finalize("failed" if failed else "success")
    for run in runs_of(loggers):
        before = run.config.get("run") or {}
        run.summary.update({key: value for key, value in facts.items() if value != before.get(key)})
        run.finish(exit_code=int(failed))
