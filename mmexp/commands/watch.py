"""`mmexp watch`: how far a sweep or a run is."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mmexp.errors import RequestError, nearest

_SECONDS_BETWEEN_LOOKS = 2.0


def main(arguments: Sequence[str]) -> int:
    """Show the table until nothing runs or waits; with `--once`, or where nobody looks, as it is now."""
    names = [argument for argument in arguments if not argument.startswith("-")]
    for option in arguments:
        if option.startswith("-") and option != "--once":
            raise RequestError(f"'{option}' is no option of watch.{nearest(option, ['--once'])}")
    if len(names) != 1:
        raise RequestError("watch shows one sweep or run: mmexp watch NAME, the name or the directory.")
    from mmexp.runs.watching import found

    directory = found(names[0])
    if "--once" in arguments or not sys.stdout.isatty():
        from rich.console import Console

        Console(markup=False).print(_table(directory)[0])
        return 0
    _follow(directory)
    return 0


def _table(directory: Path) -> tuple[object, bool]:
    """Return the table, and whether there is more to come."""
    from mmexp.runs.watch_table import watch_table
    from mmexp.runs.watching import watch

    runs = watch(directory, time.time())
    return watch_table(runs), any(run.state in ("running", "waiting") for run in runs)


def _follow(directory: Path) -> None:
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        going = True
        while going:
            table, going = _table(directory)
            live.update(table, refresh=True)  # type: ignore[arg-type]
            if going:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
