"""What a run says of itself: its opening lines, and the facts of `run.json`."""

from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Any

from mmexp.request import Experiment, Request
from mmexp.runs.record import hardware_facts


def opening(experiment: Experiment, request: Request) -> str:
    """Return what is about to happen, in two lines."""
    task, splits = experiment.task, experiment.source.splits
    total = sum(p.numel() for p in task.parameters())
    trained = sum(p.numel() for p in task.parameters() if p.requires_grad)
    part = "all trained" if trained == total else f"{trained / total:.1%} trained"
    rows = ", ".join(f"{name} {len(samples):,}" for name, samples in splits.items())
    batch = experiment.stopwatch.batch_size
    doing = f"{part}; {task.total_steps:,} steps of {batch}" if request.config["train"] else "measured as they are"
    return f"{request.config['name']}: {total / 1e6:.1f} M weights, {doing}; rows: {rows}\nrun: {request.directory}"


def facts(request: Request, experiment: Experiment) -> dict[str, Any]:
    """Return what is known before training starts."""
    task, config = experiment.task, request.config
    stable = {key: config[key] for key in config if key not in ("name", "hardware", "logger", "sweep", "resume")}
    counted = [(p.numel(), p.requires_grad) for p in task.parameters()]
    return {
        "command": f"mmexp train {' '.join(request.overrides)}".strip(),
        "overrides": request.overrides,
        "choices": _built(request.choices, experiment.task.model.encoders),
        "sweep": request.sweep,
        "seed": config["seed"],
        "parents": [path for path in (config["init_from"], config["teacher"]) if path],
        "fingerprint": sha256(repr(sorted(stable.items())).encode()).hexdigest()[:16],
        "data_fingerprint": experiment.source.fingerprint,
        "skipped": dict(experiment.source.skipped),
        "hardware": hardware_facts(),
        "parameters": {"total": sum(n for n, _ in counted), "trainable": sum(n for n, trained in counted if trained)},
    }


def _built(choices: Mapping[str, str], encoders: Collection[str]) -> dict[str, str]:
    """Return the choices without those of towers that the data asked for none of, as of sounds where there are pictures alone."""
    chosen = {name: name.removeprefix("encoder/") for name in choices}
    return {name: choices[name] for name, own in chosen.items() if own == name or own in encoders}


def measured(experiment: Experiment) -> dict[str, Any]:
    """Return what training has cost so far. Captions that were cut count each time they are read in this process."""
    stopwatch, steps = experiment.stopwatch, experiment.trainer.global_step
    text = dict(experiment.task.model.encoders.items()).get("text")
    return {
        "steps": steps,
        "samples_seen": steps * stopwatch.batch_size,
        "samples_per_second": round(stopwatch.samples_per_second, 1),
        "train_seconds": round(stopwatch.train_seconds, 2),
        "captions_cut": int(getattr(text, "cut", 0)),
    }
