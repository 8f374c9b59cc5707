"""The Lightning trainer of a run: its callbacks, its loggers, when it validates."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import Logger

from mmexp import build
from mmexp.continuation import Continuation
from mmexp.request import Request
from mmexp.resuming import rows_before, steps_before
from mmexp.sweeps.pruning import pruning
from mmexp.tasks.base import Task
from mmexp.tasks.continual import ContinualTask
from mmexp.training.checkpoint_file import WholeCheckpoints
from mmexp.training.ddp import strategy_of
from mmexp.training.elastic import meet
from mmexp.training.interrupt import SignalCheckpoint
from mmexp.training.loggers import RunFacts
from mmexp.training.made_by import MadeBy, Reapplied
from mmexp.training.messages import quieten
from mmexp.training.order_log import order_log
from mmexp.training.progress import ProgressBar, Stopwatch


def monitored(task: Task, asked: str | None = None) -> tuple[str, str]:
    """Return the metric that makes a checkpoint the best, and `min` or `max`.

    Without `asked` that is retrieval in a common space, else what the head is for, else the loss. Raises RequestError for a
    metric that no validation has.
    """
    objectives, encoders = list(task.objectives.values()), list(task.model.encoders)
    metric = asked or build.best_by(len(encoders), objectives)
    known = build.validated(encoders, objectives, bool(task.class_texts))
    return metric, build.check_monitor("checkpoint.monitor", metric, known, task.reported, build.declared(objectives))


def make_trainer(
    request: Request,
    hardware: dict[str, Any],
    task: Task,
    stopwatch: Stopwatch,
    epoch_steps: int,
    data_fingerprint: str,
    goes_on: Continuation | None,
) -> L.Trainer:
    """Return the trainer. Where time alone ends the run, there is a validation at the end too. `goes_on` says
    from which checkpoint, and whether its options of optimizer and schedule give way to those asked for.
    """
    config = request.config
    checkpointing, stopping = build.make(config["checkpoint"]), build.make(config["early_stopping"])
    metric: str | None
    metric, mode = monitored(task, checkpointing.monitor if config["train"] else None)
    if config["train"] and "val" in task.samples and not isinstance(task, ContinualTask):
        build.check_best(config, list(task.model.encoders.keys()), metric, task.samples["val"])
    every = checkpointing.validation_interval(epoch_steps, task.total_steps)
    if isinstance(task, ContinualTask):
        # Of a sequence the last weights are what was learned, and the end of each task is when to look.
        metric, every = None, task.steps_per_task
    directory = request.directory / "checkpoints"
    quieten()
    trainer = L.Trainer(
        **hardware | {"strategy": strategy_of(hardware["strategy"])},
        **build.make(config["trainer"]).trainer_arguments(),
        max_steps=task.total_steps or -1,
        max_epochs=-1,
        gradient_clip_val=build.stepping(config).clip_norm,
        val_check_interval=every,
        check_val_every_n_epoch=None,
        callbacks=[
            stopwatch,
            *build.make(config["average"]).callbacks(),
            ProgressBar(stopwatch),
            *stopping.callbacks(metric, mode),
            *pruning(request.directory),
            *checkpointing.callbacks(directory, metric, mode, epoch_steps, task.total_steps),
            SignalCheckpoint(directory),
            *order_log(),
            MadeBy(config, data_fingerprint),
            *([Reapplied()] if goes_on and goes_on.changed else []),
        ],
        plugins=[WholeCheckpoints()],
        logger=make_loggers(request, goes_on.checkpoint if goes_on else None),
        log_every_n_steps=task.log_every_steps,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=request.directory,
    )
    meet(trainer)
    return trainer


def make_loggers(request: Request, start: Path | None) -> list[Logger]:
    """Return the chosen loggers; the CSV history is always among them."""
    config = dict(request.config)
    facts = RunFacts(
        request.directory,
        str(config["name"]),
        request.sweep,
        request.choices,
        config,
        before=rows_before(request.directory, steps_before(start)),
    )
    nodes = {"csv": {"_target_": "mmexp.training.loggers.csv"}, **(request.config["logger"] or {})}
    return [build.make(node, facts) for node in nodes.values()]
