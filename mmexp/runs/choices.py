"""What was chosen for runs, in the words of the command line."""

from collections.abc import Mapping, Sequence
from typing import Any


def chosen(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was chosen for a run of `run.json`, and what else its overrides set, such as the seed."""
    return overridden(row) | (row.get("choices") or {})


def overridden(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys that the overrides of a run set, and to what."""
    pairs = (str(override).lstrip("+").partition("=") for override in row.get("overrides") or [])
    return {name: value for name, _, value in pairs}


def differing(choices: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys whose value is not the same in every run."""
    names = dict.fromkeys(name for one in choices for name in one)
    return [name for name in names if len({written(one.get(name)) for one in choices}) > 1]


def written(value: Any) -> str:
    """Return a choice as a person writes it: the parts of a list joined by `+`, a dash for none."""
    if isinstance(value, str) and value.startswith("["):  # a list as it was written on the command line
        value = value.strip("[]").replace(" ", "").split(",")
    return "+".join(map(str, value)) if isinstance(value, (list, tuple)) else "–" if value is None else str(value)
