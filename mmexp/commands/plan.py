"""`mmexp plan`: what a run would be, before it runs."""

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

    if experiment.loaded:
        print(experiment.loaded.told())
    table = Table(title="what this run would be", show_header=False)
    for key, value in facts(experiment):
        table.add_row(key, value)
    Console().print(table)


def facts(experiment: Any) -> list[tuple[str, str]]:
    """Return what to print: parameters by part, FLOPs, memory, steps, and the time of a measured step."""
    from mmexp.training.cost import step_cost, step_seconds

    task = experiment.task
    batch = next(iter(experiment.train))
    cost = step_cost(task, batch)
    seconds = step_seconds(task, batch, experiment.trainer.precision)
    parameters = list(task.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    total = sum(p.numel() for p in parameters)
    weights = sum(p.numel() * p.element_size() for p in parameters)
    # Gradients once and Adam's two moments, for what is trained.
    state = 3 * sum(p.numel() * p.element_size() for p in parameters if p.requires_grad)
    rows = {name: len(loader.dataset) for name, loader in {"train": experiment.train, **experiment.evaluations}.items()}
    named = {"encoder " + name: part for name, part in task.model.encoders.items()}
    named |= {"fusion": task.model.fusion, **{"objective " + n: part for n, part in task.objectives.items()}}
    parts = [(name, f"{sum(p.numel() for p in part.parameters()):,} parameters") for name, part in named.items()]
    return [
        *parts,
        ("parameters", f"{total:,}, of them trained {trained:,} ({trained / total:.1%})"),
        ("weights from", experiment.loaded.source if experiment.loaded else "the seed alone"),
        ("rows", ", ".join(f"{name} {n:,}" for name, n in rows.items())),
        ("steps", f"{task.total_steps:,} of {len(batch['index'])} rows"),
        ("FLOPs a step", f"{cost.flops / 1e9:,.1f} G"),
        ("memory", f"{(weights + state + cost.activation_bytes) / 1e6:,.0f} MB (weights, optimizer, activations)"),
        ("time of a step", f"about {seconds:.2f} s here, so {task.total_steps * seconds / 60:.1f} min of training"),
    ]
