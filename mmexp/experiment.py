"""One run, from a checked configuration to a finished run directory."""

# ruff: noqa: E402 - what Lightning imports is settled before it is imported.

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Any, cast

import torch
from omegaconf import OmegaConf

from mmexp.lean import load

# Lightning imports it whole, and it what it has metrics for: two seconds.
load("torchmetrics", without=("torchvision", "transformers", "scipy", "matplotlib"))


from mmexp import build
from mmexp.blocks import compile_blocks, recompute
from mmexp.data.loaders import evaluation_loader, train_loader
from mmexp.data.supervision import supervision_of
from mmexp.ending import conclude_record, told
from mmexp.facts import facts, measured, opening
from mmexp.fitting import train_and_evaluate
from mmexp.linear import hasten
from mmexp.needs import looked_at
from mmexp.pictures_kept import keep_pictures
from mmexp.request import Experiment, Request
from mmexp.resume_check import continuation
from mmexp.runs.record import RunRecord, write_metrics
from mmexp.sequence import arrange
from mmexp.sequence import told as sequence_of
from mmexp.shapes import TeacherShape
from mmexp.tasks.continual import ContinualTask
from mmexp.trainer import make_trainer, monitored
from mmexp.training.interrupt import Interrupted, interruptible
from mmexp.training.loggers import announce, conclude, finish
from mmexp.training.progress import Stopwatch


def run(request: Request) -> int:
    """Train, evaluate and report; return the exit status. Raises RequestError before anything is written."""
    experiment = prepare(request)
    first, loggers = experiment.trainer.is_global_zero, experiment.trainer.loggers
    record = RunRecord(request.directory, facts(request, experiment))
    if first:
        classes = experiment.source.classes if build.class_heads(request.config) else None
        record.start(OmegaConf.to_yaml(OmegaConf.create(dict(request.config))), classes)
        print(opening(experiment, request))
    # What ends the process otherwise, as a scheduler may, has broken the run off.
    status, error, code = "interrupted", None, 1
    try:
        if first:
            announce(loggers, record.facts)
        record.facts |= keep(experiment, request.config)
        with interruptible():
            metrics = train_and_evaluate(experiment, request)
        if first:
            write_metrics(request.directory, metrics)
        status, code = "completed", 0
    except (Interrupted, KeyboardInterrupt) as interruption:
        status, error, code = "interrupted", str(interruption), getattr(interruption, "status", 130)
    except Exception as failure:
        status, error = "failed", told(failure)
    finally:
        if first:
            conclude_record(record, measured(experiment), status, error)
    try:
        if status == "completed" and first:
            conclude(loggers, request.directory, metrics, show(experiment, request, metrics), record.facts)
    finally:
        finish(loggers, record.facts, failed=status != "completed")
    return code


def prepare(request: Request) -> Experiment:
    """Build everything in the order data, model, objectives, weights, adapter, balance, task, trainer. Writes nothing."""
    config = request.config
    goes_on = continuation(request)
    hardware = build.make(config["hardware"])
    arguments = hardware.trainer_arguments()
    variation = build.variation(config)
    loading, source = build.loading(config), build.data_source(config)
    if goes_on:
        goes_on.check_data(source.fingerprint, config["resume_allow"])
    modalities = [name for name in source.modalities if isinstance(config["encoder"].get(name), Mapping)]
    frozen = build.teacher(config, modalities)
    taught = build.shape_of(frozen, f"teacher={config['teacher']}") if frozen else TeacherShape()
    supervision = supervision_of(source)
    assembled = build.assemble(config, list(source.modalities), supervision, taught)
    assembled.model.rows_at_once = hardware.micro_batch_size
    encoders: Any = assembled.model.encoders
    for encoder in encoders.values():
        encoder.gives_tokens = looked_at(config)[0]
    teachers: Any = frozen.model.encoders if frozen else None
    teacher = frozen or build.own_teacher(config, assembled)
    rows = min(map(len, source.tasks.values()), default=len(source.splits["train"]))
    reading = loading.of(rows, hardware.processes()) if config["train"] else loading.of(rows)
    if config["train"] and reading.batch_size < loading.batch_size:
        cut = f"data.batch_size={loading.batch_size} is cut to the {reading.batch_size} of {rows} rows to learn from"
        source = replace(source, notes=[*source.notes, cut])
    strong, seed = build.strong(config), config["seed"]
    mu = next((own for head in assembled.objectives.values() if (own := getattr(head, "mu", None))), None)
    train = train_loader(source.splits["train"], encoders, reading, variation, teachers, strong, seed, mu)
    if note := getattr(train.batch_sampler, "note", None):
        source = replace(source, notes=[*source.notes, note])
    budget: Any = build.make(config["budget"])
    length_of = partial(budget.length, reading.batch_size, len(source.splits["train"]))
    length = length_of(1.0)
    steps = length.steps
    balance = build.balance(config, assembled, train.dataset, teacher)
    task = build.task(config, assembled, balance, steps, teacher)
    # After adapters and small integers, which look for torch's own layers. A teacher may be no part of the task.
    for whole in filter(None, (task, teacher)):
        hasten(whole)
    # What tasks in sequence freeze, and free again, is their own.
    trains = config["train"] and not config.get("continual")
    resting = build.rest_unreached(task, cast(Any, train.dataset)) if trains else []
    if trains:
        task.model.prefixes = build.prefixes(config, task.model, cast(Any, train.dataset))
        if teacher and not frozen:  # the run's own, which hears the same batches
            teacher.model.prefixes = task.model.prefixes
    task.samples = source.splits
    task.class_texts = build.class_texts(config, assembled, supervision)
    evaluations = {
        name: evaluation_loader(samples, encoders, loading, teachers)
        for name, samples in source.splits.items()
        if name != "train"
    }
    sets: Any = {name: loader.dataset for name, loader in {"train": train, **evaluations}.items()}
    keeping = build.keeping(config, task, frozen, _read(config, sets), source, hardware.chosen_precision())
    if "flops" in budget.limits:
        from mmexp.training.cost import step_cost

        # The random numbers to come stay as they are, so that a run of so many steps is the same run.
        with torch.random.fork_rng(devices=[]):
            batch = next(iter(train))
            task.pace.flops = step_cost(task, keeping.served(batch) if keeping else batch).flops
        length = length_of(task.pace.flops)
        steps = task.total_steps = length.steps
    if isinstance(task, ContinualTask):
        metric = monitored(task)[0].removeprefix("val/")
        train = arrange(task, source, train.dataset, reading, metric, hardware.processes())
        epoch_steps = len(train)
    else:
        order: Any = train.batch_sampler
        order.steps, epoch_steps = steps or sys.maxsize, order.steps_per_epoch
    task.steps_per_epoch = epoch_steps
    task.on_nonfinite = build.make(config["trainer"]).on_nonfinite
    stopwatch = Stopwatch(reading.batch_size, task.pace)
    task.pace.seconds, task.clock = budget.limits.get("seconds"), stopwatch.now
    if hardware.recompute:
        recompute(assembled.model)
    if hardware.compile:
        compile_blocks(assembled.model)
    if goes_on:
        goes_on.check_length(task.total_steps)
        if goes_on.changed:
            goes_on.check_weights(task.state_dict())
    trainer = make_trainer(request, arguments, task, stopwatch, epoch_steps, source.fingerprint, goes_on)
    if keeping:
        keeping.epochs = ceil(steps / cast(Any, train.batch_sampler).steps_per_view) if steps else sys.maxsize
        keeping.device = trainer.strategy.root_device
        keeping.refuse_mixing()
    return Experiment(
        task=task,
        trainer=trainer,
        train=train,
        evaluations=evaluations,
        stopwatch=stopwatch,
        source=source,
        loaded=assembled.loaded,
        towers=assembled.towers,
        heads=assembled.heads,
        keeping=keeping,
        length=length,
        resting=resting,
        continuation=goes_on,
    )


def _read(config: Mapping[str, Any], sets: dict[str, Any]) -> dict[str, Any]:
    """Return the sets of samples that a run will read: without evaluation no test sets, without training no others."""
    return {name: one for name, one in sets.items() if config["train" if name in ("train", "val") else "evaluate"]}


def keep(experiment: Experiment, config: Mapping[str, Any]) -> dict[str, Any]:
    """Let pictures be decoded once, and compute what frozen parts say of samples that come back, where it is not there yet.

    Returns the facts of `run.json`.
    """
    settings = build.make(config["cache"])
    if settings.enabled:
        sets = {name: loader.dataset for name, loader in {"train": experiment.train, **experiment.evaluations}.items()}
        keep_pictures(settings, _read(config, cast(Any, sets)), experiment.source)
    if not experiment.keeping:
        return {}
    began, missing = time.perf_counter(), experiment.keeping.missing()
    if missing and experiment.trainer.is_global_zero:
        print(f"frozen: {_by_splits(missing)}: computed once and kept in {experiment.keeping.settings.directory}")
    entries = experiment.keeping.keep()
    if config["train"] and experiment.trainer.is_global_zero:
        for line in experiment.keeping.advice():
            print(line)
    facts = {"entries": [entry.key for entry in entries], "bytes": sum(entry.size for entry in entries)}
    return {"cache": {**facts, "seconds": round(time.perf_counter() - began, 2)}}


def _by_splits(missing: Sequence[tuple[Any, str, int]]) -> str:
    """Return parts with the splits of which their outputs are computed: `image, text of train, val; teacher of val`."""
    splits: dict[str, dict[str, None]] = {}
    for part, split, _ in missing:
        splits.setdefault(str(part), {})[split] = None
    parts: dict[tuple[str, ...], list[str]] = {}
    for name, own in splits.items():
        parts.setdefault(tuple(own), []).append(name)
    return "; ".join(f"{', '.join(names)} of {', '.join(own)}" for own, names in parts.items())


def show(experiment: Experiment, request: Request, metrics: dict[str, float]) -> Any:
    """Write the report page and print the closing table; return the pictures of the page."""
    from rich.console import Console

    from mmexp.runs.forgetting import sequence_table
    from mmexp.runs.gallery import make_gallery
    from mmexp.runs.inside import look_inside
    from mmexp.runs.report import write_report
    from mmexp.runs.table import closing_table

    train: Any = experiment.train.dataset
    gallery = make_gallery(experiment.task, experiment.source, train)
    look_inside(gallery, experiment.task, experiment.source, experiment.evaluations)
    console, table = Console(markup=False), closing_table(metrics)
    if isinstance(experiment.task, ContinualTask) and experiment.task.measured:
        gallery.sequence = sequence_of(experiment.task)
        console.print(sequence_table(gallery.sequence))
    page = write_report(request.directory, gallery)
    if table.row_count:
        console.print(table)
    console.print(f"report: {page}", soft_wrap=True)
    return gallery
