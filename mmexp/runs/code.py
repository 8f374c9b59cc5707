"""The code that a run goes through, as a short digest."""

from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from mmexp.signatures import source_of

PACKAGE = Path(__file__).parents[1]
# What starts runs, or tells of them, and has no part in what comes of one.
_BESIDE = ("commands", "comparison", "exporting", "judging", "runs", "serving", "sweeps", "cli.py", "compressing.py")


def code_of(config: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits of mmexp's Python source, and of the files in which a user's own parts stand."""
    modules = sorted({target.rpartition(".")[0] for target in _targets(config)})
    own = [source_of(module) for module in modules if module.partition(".")[0] != "mmexp"]
    return sha256(repr([_package(), *(path.read_bytes() for path in own if path)]).encode()).hexdigest()[:16]


@cache
def _package() -> str:
    total = sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        place = file.relative_to(PACKAGE)
        if place.parts[0] not in _BESIDE:
            total.update(str(place).encode() + file.read_bytes())
    return total.hexdigest()


def _targets(values: Any) -> Iterator[str]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from [str(value)] if key == "_target_" else _targets(value)
    elif isinstance(values, list):
        for value in values:
            yield from _targets(value)
