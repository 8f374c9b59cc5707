"""`mmexp plan`: what a run would be, before it runs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmexp.compose import compose, resolved
from mmexp.config import check


def main(arguments: Sequence[str]) -> int:
    """Build the run, take one step that changes nothing, and print the table."""
    plain, choices = resolved(compose(arguments))
    check(plain, choices)
    from mmexp.experiment import Request, prepare

    _print(prepare(Request(plain, Path("outputs/plan"), choices, list(arguments))))
    return 0


def _print(experiment: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    from mmexp.facts import pretrained_rate, started

    for line in [*started(experiment), *pretrained_rate(experiment.task)]:
        print(line)
    table = Table(title="what this run would be", show_header=False)
    for key, value in facts(experiment):
        table.add_row(key, value)
    Console(markup=False).print(table)


def facts(experiment: Any) -> list[tuple[str, str]]:
    """Return what to print: parameters by part, FLOPs, memory, steps, and the time of a measured step."""
    from mmexp.training.cost import step_cost, step_seconds

    task = experiment.task
    live = next(iter(experiment.train))
    batch = experiment.keeping.served(live) if experiment.keeping else live
    cost = step_cost(task, batch)
    seconds = step_seconds(task, batch, experiment.trainer.precision)
    in_time = int(task.pace.seconds / seconds) if task.pace.seconds else sys.maxsize
    steps = min(in_time, task.total_steps or sys.maxsize)
    parameters = list(task.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    total = sum(p.numel() for p in parameters)
    weights = sum(p.numel() * p.element_size() for p in parameters)
    # Gradients once and Adam's two moments, for what is trained.
    state = 3 * sum(p.numel() * p.element_size() for p in parameters if p.requires_grad)
    rows = {name: len(loader.dataset) for name, loader in {"train": experiment.train, **experiment.evaluations}.items()}
    named = {"encoder " + name: part for name, part in task.model.encoders.items()}
    named |= {"alignment " + name: part for name, part in task.model.alignment.items()}
    named |= {"fusion": task.model.fusion, **{"objective " + n: part for n, part in task.objectives.items()}}
    parts = [(name, f"{sum(p.numel() for p in part.parameters()):,} parameters") for name, part in named.items()]
    return [
        *parts,
        ("parameters", f"{total:,}, of them trained {trained:,} ({trained / total:.1%})"),
        ("weights from", experiment.loaded.source if experiment.loaded else "the seed alone"),
        *((f"but encoder {name} from", origin) for name, origin in experiment.towers.items()),
        *((f"heads of {name}", origin) for name, origin in experiment.heads.items()),
        ("rows", ", ".join(f"{name} {n:,}" for name, n in rows.items())),
        ("steps", f"{steps:,} of {len(batch['index'])} rows (budget.{experiment.length.limit})"),
        ("FLOPs a step", f"{cost.flops / 1e9:,.1f} G"),
        ("memory", f"{(weights + state + cost.activation_bytes) / 1e6:,.0f} MB (weights, optimizer, activations)"),
        ("time of a step", f"about {seconds:.2f} s here, so {steps * seconds / 60:.1f} min of training"),
        *(kept(experiment, live, seconds) if experiment.keeping else []),
    ]


def kept(experiment: Any, live: Any, seconds: float) -> list[tuple[str, str]]:
    """Return what keeping the outputs of frozen parts takes and gives: bytes, time to fill, and when it has paid.

    `live` is a batch without them, `seconds` the time of a step of this run.
    """
    from mmexp.training.cost import step_seconds

    keeping, task = experiment.keeping, experiment.task
    wanted, missing = list(keeping.wanted()), keeping.missing()
    size = sum(keeping.bytes(part, split) for part, split, _ in wanted)
    filling = sum(keeping.seconds(*one) for one in missing)
    parts = ", ".join(map(str, keeping.parts))
    where = f"{size / 1e6:,.0f} MB in {keeping.settings.directory}, {len(wanted) - len(missing)} of {len(wanted)} there"
    told = [("kept of frozen parts", f"{parts}: {where}; about {filling:.0f} s to fill")]
    if keeping.served(live) is live:
        return [*told, ("their training samples", "vary anew in every epoch and are not kept; see variation.views")]
    saved = step_seconds(task, live, experiment.trainer.precision) - seconds
    even = f"paid for after {filling / saved / len(experiment.train):.1f} epochs" if saved > 0 else "it does not pay"
    return [*told, ("a step without that", f"about {saved + seconds:.2f} s: {even}")]
