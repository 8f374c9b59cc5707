"""`mmexp plan`: what a run would be, before it runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmexp.compose import compose
from mmexp.config import check


def main(arguments: Sequence[str]) -> int:
    """Build the run, take one step that changes nothing, and print the table."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict

    whole = compose(arguments)
    HydraConfig.instance().set_config(whole)
    choices = {g: str(c) for g, c in whole.hydra.runtime.choices.items() if not g.startswith("hydra/")}
    with open_dict(whole):
        config = whole.copy()
        config.pop("hydra")
    plain: Any = OmegaConf.to_container(config, resolve=True)
    check(plain, choices)
    from mmexp.experiment import Request, prepare

    _print(prepare(Request(plain, Path("outputs/plan"), choices, list(arguments))))
    return 0


def _print(experiment: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="what this run would be", show_header=False)
    for key, value in facts(experiment):
        table.add_row(key, value)
    Console().print(table)


def facts(experiment: Any) -> list[tuple[str, str]]:
    """Return what to print: parameters by part, FLOPs, memory, steps, and the time of a measured step."""
    import time

    from mmexp.tasks.balancing import BalancedStep
    from mmexp.training.cost import step_cost

    task = experiment.task
    batch = next(iter(experiment.train))
    cost = step_cost(task, batch)
    began = time.perf_counter()
    losses, _ = task.terms(task.views(batch, 0))
    BalancedStep(task.balance, losses).loss.backward()
    seconds = time.perf_counter() - began
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
        ("weights from", str(experiment.loaded or "the seed alone")),
        ("rows", ", ".join(f"{name} {n:,}" for name, n in rows.items())),
        ("steps", f"{task.total_steps:,} of {len(batch['index'])} rows"),
        ("FLOPs a step", f"{cost.flops / 1e9:,.1f} G"),
        ("memory", f"{(weights + state + cost.activation_bytes) / 1e6:,.0f} MB (weights, optimizer, activations)"),
        ("time of a step", f"about {seconds:.2f} s here, so {task.total_steps * seconds / 60:.1f} min of training"),
    ]
