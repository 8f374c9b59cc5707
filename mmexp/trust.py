"""Which classes a configuration may name as a `_target_`: it may be a stranger's, and to make an object is to run its code."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mmexp.errors import RequestError

# The rooms of parts and settings. Others make and run things.
ROOMS = (
    *("adapters", "augmentations", "balance", "caching", "continual", "data", "encoders", "fusion", "objectives"),
    *("tasks", "training"),
)
_OWN = re.compile(rf"mmexp\.(?:{'|'.join(ROOMS)})(?:\.\w+)+")
_TORCH = re.compile(r"torch\.(?:optim|optim\.lr_scheduler|nn)\.[A-Z]\w*")
# Handed on to the processes that a command starts.
_GIVEN = "MMEXP_TRUST"


def allow(arguments: Sequence[str]) -> None:
    """Trust the packages of `trust=[PACKAGE,...]` on the command line, in this process and those that it starts."""
    asked = [argument.lstrip("+").partition("=")[2] for argument in arguments if re.match(r"\+*trust=", argument)]
    if asked:
        os.environ[_GIVEN] = ",".join(re.findall(r"[\w.]+", asked[-1]))


def check_targets(values: Any, source: str = "") -> None:
    """Raise RequestError for the first `_target_`, at any depth, that may not be named; `source` says whose it is."""
    for target in _targets(values):
        if not _may_be_named(str(target)):
            package = str(target).partition(".")[0]
            where = f"{source}: " if source else ""
            raise RequestError(
                f"{where}_target_ '{target}' is not a part of mmexp, and would run code of '{package}'. If you trust it, "
                f"say so on the command line: trust=[{package}]."
            )


def _targets(values: Any) -> Iterator[Any]:
    if isinstance(values, Mapping):
        if "_target_" in values:
            yield values["_target_"]
        for value in values.values():
            yield from _targets(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _targets(value)


def _may_be_named(target: str) -> bool:
    packages = [package for package in os.environ.get(_GIVEN, "").split(",") if package]
    if any(target == package or target.startswith(f"{package}.") for package in packages):
        return True
    return bool(_TORCH.fullmatch(target)) or (bool(_OWN.fullmatch(target)) and _is_defined(target))


@cache
def _is_defined(target: str) -> bool:
    """Say whether a name is defined in its module, and not something that the module imports."""
    import ast
    from importlib.util import find_spec

    module, _, name = target.rpartition(".")
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return False
    if not (spec and spec.origin and spec.origin.endswith(".py")):
        return False
    body = ast.parse(Path(spec.origin).read_text()).body
    return any(isinstance(one, ast.ClassDef | ast.FunctionDef) and one.name == name for one in body)
