"""What a run says of itself: its opening lines, and the facts of `run.json`."""

import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mmexp.hints import pretrained_hint
from mmexp.request import Experiment, Request
from mmexp.runs.code import code_of
from mmexp.runs.parents import fingerprint, parent
from mmexp.runs.record import hardware_facts
from mmexp.sweeps.pruning import pruned
from mmexp.training.checkpoint import early_stop
from mmexp.training.groups import pretrained_weights
from mmexp.training.optimizer import Schedule, peak
from mmexp.truncation import spread, truncated
from mmexp.types import AS_IT_IS


def opening(experiment: Experiment, request: Request) -> str:
    """Return what is about to happen: what weights there are to start from, then two lines."""
    task, splits = experiment.task, experiment.source.splits
    total, trained = counted(task)
    part = "all trained" if trained == total else f"{trained / total:.1%} trained"
    rows = ", ".join(f"{name} {len(samples):,}" for name, samples in splits.items())
    lines = [*started(experiment), *(pretrained_rate(experiment.task) if request.config["train"] else ())]
    start = "".join(f"{line}\n" for line in lines)
    doing = f"{part}; {_length(experiment)}" if request.config["train"] else "measured as they are"
    told = f"{request.config['name']}: {total / 1e6:.1f} M weights, {doing}; rows: {rows}"
    hint = pretrained_hint(experiment, request.config)
    return "\n".join(filter(None, (f"{start}{told}", hint, f"run: {request.directory}")))


def started(experiment: Experiment) -> list[str]:
    """Return in lines what weights there are to start from, which parts stay as they start, and what nobody reads."""
    whole = [experiment.loaded.told()] if experiment.loaded else []
    resting = ", ".join(experiment.resting)
    unread = ", ".join(name for name in experiment.source.modalities if name not in experiment.task.model.encoders)
    goes_on = experiment.continuation
    return [
        *(goes_on.told(experiment.task.total_steps) if goes_on else []),
        *experiment.source.notes,
        *whole,
        *(f"weights of encoder {name}: {origin}" for name, origin in experiment.towers.items()),
        *(f"heads of objective {name}: {origin}" for name, origin in experiment.heads.items()),
        *(f"encoder {name}: {report}" for name, report in _without_weights(experiment)),
        *_cut_captions(experiment),
        *([f"not trained, since no loss depends on it: {resting}"] if resting else []),
        *([f"in the data, and read by no encoder: {unread}"] if unread else []),
    ]


def pretrained_rate(task: Any) -> list[str]:
    """Return in a line the rate at which pretrained weights are trained, where it is lower than the optimizer's."""
    names = pretrained_weights(task)
    if not names:
        return []
    groups = task.optimizer_factory(task).param_groups
    highest = max(group["lr"] for group in groups)
    own = max(group["lr"] for group in groups if group["pretrained"])
    if own >= highest:
        return []
    towers = ", ".join(sorted({name.split(".")[2] for name in names if name.startswith("model.")}))
    return [
        f"learning rate of pretrained towers ({towers}): {own:g}, of everything else: {highest:g} (optimizer.pretrained_lr)"
    ]


def _cut_captions(experiment: Experiment) -> list[str]:
    """Return in a line for each text encoder how many captions of `train` are cut, none where none are."""
    samples: Any = experiment.train.dataset
    lines = []
    for name, encoder in experiment.task.model.encoders.items():
        if encoder.modality != "text" or not hasattr(encoder, "cut"):
            continue
        places = [(row, AS_IT_IS) for row in spread(len(samples))]
        found = truncated(encoder, _captions(samples, name, places))
        of = "" if len(places) == len(samples) else f" ({len(places):,} rows of {len(samples):,})"
        alike = f"; {found.alike:,} of them differ from another one only behind the cut" if found.alike else ""
        if found.cut:
            lines.append(
                f"captions cut: {found.cut:,} of {found.captions:,} captions of train{of} are longer than "
                f"encoder.{name}.context_length={found.length} tokens{alike}"
            )
    return lines


def _captions(samples: Any, name: str, places: list[tuple[int, int]]) -> list[str]:
    """Return the captions of rows, each of a list cell by itself, as training reads them."""
    texts = getattr(samples.samples, "texts", None) if name == "text" else None
    if texts is None:
        return [text for text in samples.values(name, places, None) if text]
    there = samples.present.get(name)
    return [text for row, _ in places if there is None or there[row] for text in texts(row)]


def _without_weights(experiment: Experiment) -> list[tuple[str, str]]:
    """Return the encoders whose folder holds no weights, and what is to be reported of it."""
    loaded = {
        *experiment.towers,
        *(part.rpartition(".")[2] for part in (experiment.loaded.parts if experiment.loaded else ())),
    }
    reports = {name: getattr(encoder, "weights_report", "") for name, encoder in experiment.task.model.encoders.items()}
    return [(name, report) for name, report in reports.items() if report and name not in loaded]


def _length(experiment: Experiment) -> str:
    """Return when the run ends, with the limit that ends it, so that runs that were to spend the same can be seen not to."""
    pace, batch = experiment.task.pace, experiment.stopwatch.batch_size
    time = f"{pace.seconds:,g} s of training" if pace.seconds else ""
    if pace.total_steps is None:
        return f"{time} in steps of {batch}"
    length = experiment.length
    limit = "; ".join(filter(None, (f"budget.{length.limit}", length.note)))
    steps = f"{pace.total_steps:,} steps of {batch} ({limit})"
    if time:
        return f"{steps} or {time}, whichever is first"
    task = experiment.task
    return steps + warm_up(task.schedule_factory, getattr(task, "steps_per_task", pace.total_steps))


def warm_up(schedule: Schedule, steps: int) -> str:
    """Return how long the warm-up of a training of `steps` optimizer steps is, and whether it ends in it."""
    reached = peak(schedule, steps)
    if reached is None:
        return ""
    step, rate = reached
    if rate < 1 and step == steps - 1:
        return (
            f"; the warm-up (schedule.warmup_steps) is longer than that: "
            f"the learning rate reaches {rate:.1%} of optimizer.lr and does not decay"
        )
    return f", warm-up {step}" if step else ""


def facts(request: Request, experiment: Experiment) -> dict[str, Any]:
    """Return what is known before training starts."""
    task, config = experiment.task, request.config
    total, trained = counted(task)
    origins = {"init_from": experiment.loaded and experiment.loaded.source, "teacher": config["teacher"]}
    towers = {name: config["encoder"][name].get("weights") or "" for name in task.model.encoders}
    # What a package carries is told by the package's name.
    origins |= {f"encoder.{name}.weights": path for name, path in towers.items() if path and Path(path).exists()}
    return {
        "command": shlex.join(["mmexp", "train", *request.overrides]),
        "overrides": request.overrides,
        "choices": _built(request.choices, experiment.task.model.encoders),
        "sweep": request.sweep,
        "sweeper": request.sweeper,
        "seed": config["seed"],
        "parents": [parent(role, path) for role, path in origins.items() if path],
        "fingerprint": fingerprint(config),
        "code": code_of(config),
        "data_fingerprint": experiment.source.fingerprint,
        "skipped": dict(experiment.source.skipped),
        "hardware": hardware_facts(),
        "parameters": {"total": total, "trainable": trained},
        "total_steps": task.total_steps,
        "total_seconds": task.pace.seconds,
    }


def _early_stopping(experiment: Experiment) -> dict[str, Any]:
    ended = early_stop(experiment.trainer)
    if ended is None:
        return {}
    step = experiment.trainer.global_step
    return {"stopped": ended.told(step), "early_stopping": ended.facts(step)}


def counted(task: nn.Module) -> tuple[int, int]:
    """Return how many weights the run has, and how many are trained; a teacher that follows them is no part of it."""
    own = [p for name, p in task.named_parameters() if not name.startswith("teacher.")]
    return sum(p.numel() for p in own), sum(p.numel() for p in own if p.requires_grad)


def _built(choices: Mapping[str, str], encoders: Collection[str]) -> dict[str, str]:
    """Return the choices without those of towers that the data asked for none of, as of sounds where there are pictures alone.

    Of an adapter for one tower nothing is said where none was chosen.
    """
    told = {name: choice for name, choice in choices.items() if not (name.startswith("adapter/") and choice == "None")}
    # As `encoder/audio` stands at encoder.audio, `encoder/image@encoder.video.image` does at encoder.video.
    places = {name: (name.partition("@")[2] or name.replace("/", ".")).split(".") for name in told}
    of_part = ("encoder", "adapter")
    built = (*encoders, "fusion")
    return {
        name: told[name]
        for name, place in places.items()
        if place[0] not in of_part or not place[1:] or place[1] in built
    }


def measured(experiment: Experiment) -> dict[str, Any]:
    """Return what training has cost so far. Captions that were cut count each time they are read in this process.

    `budget` is what was spent of each limit; `train_flops` are those of the first step for all steps.
    """
    stopwatch, steps = experiment.stopwatch, experiment.trainer.global_step
    samples, seconds = steps * stopwatch.batch_size, round(stopwatch.train_seconds, 2)
    flops = experiment.task.pace.flops and experiment.task.pace.flops * steps
    return {
        "steps": steps,
        "samples_seen": samples,
        "samples_per_second": round(stopwatch.samples_per_second, 1),
        "train_seconds": seconds,
        "train_flops": flops,
        "budget": {"steps": steps, "samples": samples, "seconds": seconds, "flops": flops},
        "captions_cut": sum(int(getattr(one, "cut", 0)) for one in experiment.task.model.encoders.values()),
        **({"stopped": reason} if (reason := pruned(experiment.trainer)) else {}),
        **_early_stopping(experiment),
    }
