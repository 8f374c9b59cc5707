"""A value that may change in the course of a run: a weight that grows, a share of masked words that falls."""

from collections.abc import Callable, Mapping
from math import cos, floor, pi
from typing import Any, TypeVar, Union

_Value = TypeVar("_Value")
# In a signature `Curriculum[Fraction]` is a number, or {from, to, start, end, shape}; `mmexp.values` checks both.
Curriculum = Union[_Value, Mapping[str, Any]]  # noqa: UP007 (a type checker knows no alias of `_Value | ...`)

SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda done: done,
    "cosine": lambda done: (1 - cos(pi * done)) / 2,
    "step": floor,
}


def current(value: Curriculum[float], progress: float) -> float:
    """Return what `value` is at `progress`, the share (0 to 1) of the run that is done.

    A mapping goes `from` one value `to` another between the shares `start` (0) and `end` (1) of the run, in the given
    `shape`: `linear`, `cosine` (slow, fast, slow) or `step` (at once, at `end`).
    """
    if not isinstance(value, Mapping):
        return value
    start, end = value.get("start", 0.0), value.get("end", 1.0)
    done = min(1.0, max(0.0, (progress - start) / (end - start)))
    return value["from"] + (value["to"] - value["from"]) * SHAPES[value.get("shape", "linear")](done)
