"""`mmexp compare`: runs side by side, and which differences are more than luck."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mmexp.comparison.types import Comparison, Run
from mmexp.errors import RequestError, nearest

_FILES = ("--json", "--csv", "--markdown", "--html")
_USAGE = "mmexp compare PATH... [--metric NAME] [--json FILE] [--csv FILE] [--markdown FILE] [--html FILE] [--tree]"


def main(arguments: Sequence[str]) -> int:
    """Print the comparison of the runs below the paths, and write it where asked."""
    if "--help" in arguments or "-h" in arguments:
        print(f"usage: {_USAGE}")
        return 0
    if "--tree" in arguments:
        from mmexp.commands import lineage

        return lineage.main([argument for argument in arguments if argument != "--tree"])
    paths, options = _asked(arguments)
    from mmexp.comparison.statistics import compare

    comparison = compare(_read(paths), options.pop("--metric", None))
    for option, file in options.items():
        _writer(option)(comparison, Path(file))
    _print(comparison)
    for file in options.values():
        print(f"written: {file}")
    return 0


def _read(paths: Sequence[str]) -> list[Run]:
    """Return the runs below directories, and those of projects of W&B."""
    from mmexp.comparison.reading import read, with_choices

    projects, directories = ([p for p in paths if p.startswith("wandb:") == is_one] for is_one in (True, False))
    runs = read([Path(path) for path in directories]) if directories else []
    if not projects:
        return runs
    from mmexp.comparison.wandb_runs import read_wandb

    return with_choices([*runs, *(run for project in projects for run in read_wandb(project))])


def _asked(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the paths, and from option to its value."""
    paths: list[str] = []
    options: dict[str, str] = {}
    left = list(arguments)
    while left:
        name, equals, value = left.pop(0).partition("=")
        if not name.startswith("-"):
            paths.append(name + equals + value)
            continue
        if name not in (*_FILES, "--metric"):
            raise RequestError(f"'{name}' is no option of compare.{nearest(name, [*_FILES, '--metric', '--tree'])}")
        if not equals and not left:
            raise RequestError(f"{name} needs a {'name' if name == '--metric' else 'file'}: {_USAGE}")
        options[name] = value if equals else left.pop(0)
        if name in _FILES:
            _check_file(name, options[name])
    if not paths:
        raise RequestError(f"compare needs the directory of a run or a sweep: {_USAGE}")
    return paths, options


def _check_file(option: str, file: str) -> None:
    if not file or Path(file).is_dir():
        raise RequestError(f"{option} needs the name of a file, not {f'the directory {file}' if file else 'nothing'}.")
    if not Path(file).parent.is_dir():
        raise RequestError(f"{option} {file}: there is no directory {Path(file).parent}.")


def _writer(option: str) -> Callable[[Comparison, Path], None]:
    if option == "--html":
        from mmexp.comparison.page import write_page

        return write_page
    from mmexp.comparison.writing import as_csv, as_json, markdown
    from mmexp.runs.record import write_atomically

    as_text = {"--json": as_json, "--csv": as_csv, "--markdown": markdown}[option]
    return lambda comparison, path: write_atomically(path, as_text(comparison))


def _print(comparison: Comparison) -> None:
    from rich.console import Console

    from mmexp.comparison.tables import as_table, sheets

    console = Console(markup=False)
    for sheet in sheets(comparison):
        console.print(as_table(sheet))
        console.print()
    for note in comparison.notes:
        console.print(f"note: {note}", style="yellow", highlight=False)
