"""What a search may choose, read from the command line in Hydra's own grammar."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from mmexp.errors import RequestError, nearest

_TAGS = ("log", "int")


@dataclass(frozen=True)
class Space:
    """The overrides that stay as they were put, by key, and the keys that are searched, each with what it may be.

    Choices are the texts of the command line, so that a group, a list and a number are treated alike.
    """

    fixed: Mapping[str, str]
    searched: Mapping[str, Any]

    def overrides(self, chosen: Mapping[str, Any]) -> list[str]:
        """Return the overrides of one run, the fixed ones first."""
        return [*self.fixed.values(), *(f"{key}={value}" for key, value in chosen.items())]

    def examples(self) -> list[dict[str, Any]]:
        """Return choices in which each key has each of its values, or both of its ends, at least once."""
        ends = {key: _values(one) or [one.low, one.high] for key, one in self.searched.items()}
        first = {key: values[0] for key, values in ends.items()}
        return [first, *(first | {key: value} for key, values in ends.items() for value in values[1:])]

    def values(self) -> dict[str, list[Any]] | None:
        """Return all values of each searched key, None where a key has no end of them."""
        values = {key: _values(distribution) for key, distribution in self.searched.items()}
        return None if None in values.values() else {key: value or [] for key, value in values.items()}

    def combinations(self) -> int | None:
        """Return how many different runs there are, None without end."""
        values = self.values()
        return None if values is None else math.prod(map(len, values.values()))

    def told(self) -> dict[str, str]:
        """Return each key with what it is or may be, to be compared with what an earlier command said."""
        return dict(self.fixed) | {key: f"{key}={distribution}" for key, distribution in self.searched.items()}


def read_space(overrides: Sequence[Override]) -> Space:
    """Return the space of a command line's overrides. Raises RequestError where it says nothing that can be searched."""
    fixed, searched = {}, {}
    # Of a key that is put twice the last holds, as in a single run.
    for key, override in {override.get_key_element(): override for override in overrides}.items():
        if override.is_sweep_override():
            searched[key] = _distribution(override)
        else:
            value = (
                "" if override.value() is None and override.is_delete() else f"={override.get_value_element_as_str()}"
            )
            fixed[key] = key + value
    if not searched:
        raise RequestError(
            "there is nothing to search: every key has one value. "
            "Give some several, such as encoder=vit,cnn or 'optimizer.lr=tag(log,interval(1e-5,1e-2))'."
        )
    if "seed" in searched:
        raise RequestError(
            "seed: a search would choose the luckiest one. Search with one seed, and repeat the best with several."
        )
    return Space(fixed, searched)


def _distribution(override: Override) -> BaseDistribution:
    key, sweep = override.get_key_element(), override.value()
    if not isinstance(sweep, IntervalSweep | RangeSweep):
        return CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))
    for tag in sweep.tags:
        if tag not in _TAGS:
            raise RequestError(f"{key}: '{tag}' is not a tag of a search.{nearest(tag, _TAGS)}")
    low, high, step = _bounds(key, sweep)
    whole = all(isinstance(bound, int) for bound in (low, high, step or 1)) or "int" in sweep.tags
    log = "log" in sweep.tags
    if log and (low <= 0 or isinstance(sweep, RangeSweep)):
        raise RequestError(
            f"{key}: the tag 'log' goes with an interval that begins above 0, as log,interval(1e-5,1e-2)."
        )
    if whole:
        return IntDistribution(int(low), int(high), log, int(step or 1))
    return FloatDistribution(low, high, log, step)


def _bounds(key: str, sweep: IntervalSweep | RangeSweep) -> tuple[Any, Any, Any]:
    """Return the least, the greatest and the step, which is None in an interval."""
    if isinstance(sweep, RangeSweep):
        values = sorted(sweep.range())
        low, high, step = (values[0], values[-1], abs(sweep.step)) if values else (1, 0, None)
    else:
        low, high, step = sweep.start, sweep.end, None
    if low > high:
        raise RequestError(f"{key}: there is nothing between the beginning and the end. Put the smaller one first.")
    return low, high, step


def _values(distribution: BaseDistribution) -> list[Any] | None:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    if isinstance(distribution, FloatDistribution) and distribution.step:
        count = round((distribution.high - distribution.low) / distribution.step) + 1
        return [distribution.low + place * distribution.step for place in range(count)]
    return None
