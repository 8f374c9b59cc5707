"""What runs cost, and which of them give most for it."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmexp.comparison.types import Run

COSTS = ("train_seconds", "wall_seconds", "parameters", "trainable", "train_flops", "peak_memory_bytes")


def fronts(runs: Sequence[Run], metric: str, rises: bool) -> dict[str, list[str]]:
    """Return for each cost in which `runs` differ the names of those that none beats, the cheapest first."""
    return {cost: _front(runs, metric, rises, cost) for cost in COSTS if _varies(cost, runs)}


def cost_of(run: Run, cost: str) -> float | None:
    """Return one of `COSTS`; None where `run.json` does not tell it."""
    parameters: Mapping[str, Any] = run.facts.get("parameters") or {}
    value = parameters.get({"parameters": "total"}.get(cost, cost)) if cost in ("parameters", "trainable") else None
    return value if value is not None else _number(run.facts.get(cost))


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) else None


def _varies(cost: str, runs: Sequence[Run]) -> bool:
    return len({value for run in runs if (value := cost_of(run, cost)) is not None}) > 1


def _front(runs: Sequence[Run], metric: str, rises: bool, cost: str) -> list[str]:
    """Return the runs than which no other is as good in both and better in one, the cheapest first."""
    points = [
        (c, run.metrics[metric] * (-1 if rises else 1), run.name)
        for run in runs
        if (c := cost_of(run, cost)) is not None
    ]
    return [
        name
        for c, loss, name in sorted(points)
        if not any(other <= c and worse <= loss and (other, worse) != (c, loss) for other, worse, _ in points)
    ]
