"""`mmexp cache`: what is kept of frozen parts, and how to be rid of it."""

from collections.abc import Sequence
from pathlib import Path

from mmexp.errors import RequestError, nearest

DIRECTORY = "outputs/cache"
ACTIONS = ("ls", "rm")


def main(arguments: Sequence[str]) -> int:
    """Show the artefacts (`ls`), or remove those whose keys begin as given, or all (`rm all`)."""
    settings = [argument for argument in arguments if "=" in argument]
    action, *keys = [argument for argument in arguments if argument not in settings] or ["ls"]
    if action not in ACTIONS:
        raise RequestError(
            f"'{action}' is not an action of mmexp cache: {', '.join(ACTIONS)}.{nearest(action, ACTIONS)}"
        )
    directory = _directory(settings)
    if action == "rm" and not keys:
        raise RequestError("mmexp cache rm: say which, by the first letters of their keys, or all.")
    return _show(directory) if action == "ls" else _remove(directory, keys)


def _directory(settings: Sequence[str]) -> Path:
    for setting in settings:
        if not setting.startswith("cache.directory="):
            raise RequestError(f"'{setting}' is not a setting of mmexp cache. It has cache.directory=FOLDER.")
    return Path(settings[-1].partition("=")[2] if settings else DIRECTORY).expanduser()


def _show(directory: Path) -> int:
    from rich.console import Console
    from rich.table import Table

    from mmexp.caching.store import Store, age

    entries = Store(directory, 0).entries()
    if not entries:
        print(f"{directory} keeps nothing.")
        return 0
    table = Table("key", "part", "split", "view", "rows", "MB", "last used", box=None, padding=(0, 2, 0, 0))
    for entry in entries:
        about = entry.about
        view = "as it is" if about["variation"] is None else str(about["view"])
        row = (entry.key[:8], f"{about['part']} ({about['kind']})", about["split"], view, f"{entry.rows:,}")
        table.add_row(*row, f"{entry.size / 1e6:,.1f}", age(entry))
    Console(markup=False).print(table)
    print(f"{sum(entry.size for entry in entries) / 1e6:,.1f} MB in {directory}")
    return 0


def _remove(directory: Path, keys: Sequence[str]) -> int:
    from mmexp.caching.store import Store

    store = Store(directory, 0)
    entries = store.entries()
    for key in keys:
        if key != "all" and not any(entry.key.startswith(key) for entry in entries):
            raise RequestError(f"{directory} keeps nothing whose key begins with '{key}'. See mmexp cache ls.")
    chosen = [entry for entry in entries if "all" in keys or any(entry.key.startswith(key) for key in keys)]
    for entry in chosen:
        store.remove(entry.key)
    print(f"removed {len(chosen)}, {sum(entry.size for entry in chosen) / 1e6:,.1f} MB")
    return 0
