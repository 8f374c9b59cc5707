"""One run, from a checked configuration to a finished run directory."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from mmexp import build
from mmexp.data.loading import evaluation_loader, train_loader
from mmexp.errors import RequestError
from mmexp.runs.record import RunRecord, hardware_facts, write_metrics
from mmexp.tasks.base import Task
from mmexp.training.interrupt import Interrupted, SignalCheckpoint
from mmexp.training.loggers import RunFacts, finish
from mmexp.training.messages import quieten
from mmexp.training.progress import ProgressBar, Stopwatch
from mmexp.types import Batch, DataSource


@dataclass(frozen=True)
class Request:
    """What was asked for: the whole configuration, where it goes, and how it was put."""

    config: Mapping[str, Any]
    directory: Path
    choices: dict[str, str]
    overrides: list[str]
    sweep: str | None = None


@dataclass
class Experiment:
    """Everything of a run, built and ready."""

    task: Task
    trainer: L.Trainer
    train: DataLoader[Batch]
    evaluations: dict[str, DataLoader[Batch]]
    stopwatch: Stopwatch
    source: DataSource
    loaded: str | None


def run(request: Request) -> int:
    """Train, evaluate and report; return the exit status. Raises RequestError before anything is written."""
    experiment = prepare(request)
    record = RunRecord(request.directory, _facts(request, experiment))
    if experiment.trainer.is_global_zero:
        record.start(OmegaConf.to_yaml(OmegaConf.create(dict(request.config))))
        print(_opening(experiment, request))
    status, error, code = "failed", None, 1
    try:
        metrics = train_and_evaluate(experiment, request)
        if experiment.trainer.is_global_zero:
            write_metrics(request.directory, metrics)
            record.update(**_measured(experiment))
        status, code = "completed", 0
    except Interrupted as interruption:
        status, error, code = "interrupted", str(interruption), interruption.status
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
        traceback.print_exc()
    finally:
        finish(experiment.trainer.loggers, failed=status != "completed")
        if experiment.trainer.is_global_zero:
            record.finish(status, error)
    if status == "completed" and experiment.trainer.is_global_zero:
        show(experiment, request, metrics)
    return code


def _opening(experiment: Experiment, request: Request) -> str:
    """Return what is about to happen, in two lines."""
    task, splits = experiment.task, experiment.source.splits
    total = sum(p.numel() for p in task.parameters())
    trained = sum(p.numel() for p in task.parameters() if p.requires_grad)
    part = "all trained" if trained == total else f"{trained / total:.1%} trained"
    rows = ", ".join(f"{name} {len(samples):,}" for name, samples in splits.items())
    batch = experiment.stopwatch.batch_size
    return (
        f"{request.config['name']}: {total / 1e6:.1f} M weights, {part}; {task.total_steps:,} steps of {batch}; rows: {rows}\n"
        f"run: {request.directory}"
    )


def prepare(request: Request) -> Experiment:
    """Build everything in the order data, model, weights, adapter, objectives, task, trainer. Writes nothing."""
    config = request.config
    hardware = build.make(config["hardware"])
    arguments = hardware.trainer_arguments()
    loading, source = build.loading(config), build.data_source(config)
    teacher = build.teacher(config)
    teacher_dims = teacher.dims() if teacher else {}
    assembled = build.assemble(config, list(source.modalities), len(source.classes), teacher_dims)
    encoders: Any = assembled.model.encoders
    teachers: Any = teacher.model.encoders if teacher else None
    train = train_loader(source.splits["train"], encoders, loading, build.variation(config), teachers)
    budget: Any = build.make(config["budget"])
    steps = budget.total_steps(loading.batch_size, len(source.splits["train"]), 1.0)
    task = build.task(config, assembled, steps, teacher)
    if budget.flops:
        from mmexp.training.cost import step_cost

        flops = step_cost(task, next(iter(train))).flops
        steps = task.total_steps = budget.total_steps(loading.batch_size, len(source.splits["train"]), flops)
    stopwatch = Stopwatch(loading.batch_size)
    return Experiment(
        task=task,
        trainer=make_trainer(request, arguments, task, stopwatch, len(train), budget.seconds),
        train=train,
        evaluations={
            name: evaluation_loader(samples, encoders, loading, teachers)
            for name, samples in source.splits.items()
            if name != "train"
        },
        stopwatch=stopwatch,
        source=source,
        loaded=str(assembled.loaded) if assembled.loaded else None,
    )


def monitored(task: Task) -> tuple[str, str]:
    """Return what makes a checkpoint the best: retrieval where the task has a common space, else accuracy, else loss."""
    modalities = sorted(task.model.encoders)
    if len(modalities) > 1 and any(hasattr(o, "embed") for o in task.objectives.values()):
        return f"val/{modalities[-1]}_to_{modalities[0]}_r10", "max"
    if any(hasattr(o, "classify") for o in task.objectives.values()):
        return "val/accuracy", "max"
    return "val/loss", "min"


def make_trainer(
    request: Request,
    hardware: dict[str, Any],
    task: Task,
    stopwatch: Stopwatch,
    epoch_steps: int,
    seconds: float | None,
) -> L.Trainer:
    """Return the trainer. Validations are spread evenly, the last one at the end of the budget (but for a few steps)."""
    config = request.config
    checkpointing, stopping = build.make(config["checkpoint"]), build.make(config["early_stopping"])
    metric, mode = monitored(task)
    if checkpointing.monitor:
        metric, mode = checkpointing.monitor, "min" if "loss" in checkpointing.monitor else "max"
    validations = max(1, ceil(task.total_steps / (checkpointing.validate_every_epochs * epoch_steps)))
    directory = request.directory / "checkpoints"
    quieten()
    return L.Trainer(
        **hardware,
        max_steps=task.total_steps,
        max_time=timedelta(seconds=seconds) if seconds else None,
        val_check_interval=max(1, task.total_steps // validations),
        check_val_every_n_epoch=None,
        callbacks=[
            stopwatch,
            ProgressBar(stopwatch, task.total_steps),
            *stopping.callbacks(metric, mode),
            *checkpointing.callbacks(directory, metric, mode),
            SignalCheckpoint(directory),
        ],
        logger=make_loggers(request),
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=request.directory,
    )


def make_loggers(request: Request) -> list[Logger]:
    """Return the chosen loggers; the CSV history is always among them."""
    facts = RunFacts(
        request.directory, str(request.config["name"]), request.sweep, request.choices, dict(request.config)
    )
    nodes = {"csv": {"_target_": "mmexp.training.loggers.csv"}, **(request.config["logger"] or {})}
    return [build.make(node, facts) for node in nodes.values()]


def train_and_evaluate(experiment: Experiment, request: Request) -> dict[str, float]:
    """Return the final metrics; those of loaded weights before training are among them as `start/...`."""
    task, trainer, evaluations = experiment.task, experiment.trainer, experiment.evaluations
    metrics: dict[str, float] = {}
    if experiment.loaded and request.config["evaluate"]:
        print(f"start: {experiment.loaded}")
        metrics |= {f"start/{name}": value for name, value in evaluate(task, trainer, evaluations).items()}
    task.splits = ["val"] if "val" in evaluations else []
    trainer.fit(task, experiment.train, evaluations.get("val"), ckpt_path=resumed(request), weights_only=True)
    if request.config["evaluate"]:
        best = request.directory / "checkpoints" / "best.ckpt"
        if best.is_file():
            task.load_state_dict(torch.load(best, weights_only=True, map_location="cpu")["state_dict"])
        metrics |= evaluate(task, trainer, evaluations)
    return metrics


def evaluate(task: Task, trainer: L.Trainer, evaluations: Mapping[str, DataLoader[Batch]]) -> dict[str, float]:
    """Return the flat metrics of every evaluation set."""
    task.splits, task.results = list(evaluations), {}
    trainer.test(task, list(evaluations.values()), verbose=False)
    return dict(task.results)


def resumed(request: Request) -> Path | None:
    """Return the checkpoint to go on from, None for a fresh start."""
    asked = request.config["resume"]
    if not asked:
        return None
    directory = request.directory if asked == "auto" else Path(asked)
    last = directory / "checkpoints" / "last.ckpt"
    if last.is_file():
        return last
    if asked == "auto":
        return None
    raise RequestError(f"resume={asked}: there is no {last}.")


def show(experiment: Experiment, request: Request, metrics: dict[str, float]) -> None:
    """Write the report page and print the closing table."""
    from rich.console import Console

    from mmexp.runs.gallery import make_gallery
    from mmexp.runs.report import write_report
    from mmexp.runs.table import closing_table

    page = write_report(request.directory, make_gallery(experiment.task, experiment.source))
    console = Console()
    console.print(closing_table(metrics))
    console.print(f"report: {page}", soft_wrap=True)


def _facts(request: Request, experiment: Experiment) -> dict[str, Any]:
    from hashlib import sha256

    task, config = experiment.task, request.config
    stable = {key: config[key] for key in config if key not in ("name", "hardware", "logger", "sweep", "resume")}
    counted = [(p.numel(), p.requires_grad) for p in task.parameters()]
    return {
        "command": f"mmexp train {' '.join(request.overrides)}".strip(),
        "overrides": request.overrides,
        "choices": request.choices,
        "sweep": request.sweep,
        "seed": config["seed"],
        "parents": [path for path in (config["init_from"], config["teacher"]) if path],
        "fingerprint": sha256(repr(sorted(stable.items())).encode()).hexdigest()[:16],
        "data_fingerprint": experiment.source.fingerprint,
        "skipped": dict(experiment.source.skipped),
        "hardware": hardware_facts(),
        "parameters": {"total": sum(n for n, _ in counted), "trainable": sum(n for n, trained in counted if trained)},
    }


def _measured(experiment: Experiment) -> dict[str, Any]:
    stopwatch, steps = experiment.stopwatch, experiment.trainer.global_step
    text = dict(experiment.task.model.encoders.items()).get("text")
    return {
        "steps": steps,
        "samples_seen": steps * stopwatch.batch_size,
        "samples_per_second": round(stopwatch.samples_per_second, 1),
        "train_seconds": round(stopwatch.train_seconds, 2),
        "captions_cut": int(getattr(text, "cut", 0)),
    }
