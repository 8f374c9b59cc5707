"""Libraries look for others as soon as they are imported, for features that no run uses: here these are left out."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from typing import Any


def load(library: str, *, without: tuple[str, ...]) -> None:
    """Import `library` as if the packages it is `without` were not installed, where neither is there already.

    What it would offer with them stays away for the rest of the process; the packages themselves can be imported as ever.
    """
    if library not in sys.modules:
        with _hidden([name for name in without if name not in sys.modules]):
            importlib.import_module(library)


@contextmanager
def _hidden(names: list[str]) -> Iterator[None]:
    # Lightning's libraries ask for the version of a package, others import it.
    from lightning_utilities.core import imports

    known = imports._version

    def version(name: str) -> str:
        if name in names:
            raise PackageNotFoundError(name)
        return known(name)

    imports._version = version  # type: ignore[assignment]
    modules: dict[str, Any] = sys.modules
    modules |= dict.fromkeys(names)
    try:
        yield
    finally:
        imports._version = known
        for name in names:
            sys.modules.pop(name)
        imports.package_available.cache_clear()
        imports.module_available.cache_clear()
