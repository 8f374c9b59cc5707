"""The code that a run goes through, as a short digest."""

from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from typing import Any

from mmexp import source_closure


def code_of(config: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits of the source files that a run imports: mmexp's, and those of a user's own parts."""
    modules = {target.rpartition(".")[0] for target in _targets(config)}
    own = source_closure.closure(module for module in modules if module.partition(".")[0] != "mmexp")
    return sha256(f"{_package()} {source_closure.digest(own)}".encode()).hexdigest()[:16]


@cache
def _package() -> str:
    return source_closure.digest(source_closure.own_modules())


def _targets(values: Any) -> Iterator[str]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from [str(value)] if key == "_target_" else _targets(value)
    elif isinstance(values, list):
        for value in values:
            yield from _targets(value)
