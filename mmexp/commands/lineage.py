"""`mmexp lineage`: which runs came from which, as a tree."""

import json
from collections.abc import Sequence
from pathlib import Path

from mmexp.errors import RequestError, nearest


def main(arguments: Sequence[str]) -> int:
    """Print the family of the runs below the paths, and the table of every chain there; `--json FILE` writes it too."""
    paths, target = _asked(list(arguments))
    from rich.console import Console

    from mmexp.runs.chain_table import chain_table
    from mmexp.runs.lineage import family
    from mmexp.runs.lineage_tree import as_json, family_tree

    runs = family(paths)
    if target:
        target.write_text(json.dumps(as_json(runs), indent=2) + "\n")
    console = Console(markup=False)
    console.print(family_tree(runs))
    for file in sorted({directory / "chain.json" for run in runs for directory in run.directory.parents}):
        if file.is_file():
            console.print(f"\n{file.parent.name}", style="bold")
            console.print(chain_table(json.loads(file.read_text())))
    return 0


def _asked(arguments: list[str]) -> tuple[list[Path], Path | None]:
    """Return where to look, and where to write."""
    target = None
    if "--json" in arguments:
        place = arguments.index("--json")
        if place + 1 == len(arguments):
            raise RequestError("--json needs the name of a file: mmexp lineage --json family.json")
        target = Path(arguments[place + 1])
        del arguments[place : place + 2]
        if not target.parent.is_dir():
            raise RequestError(f"--json {target}: there is no directory {target.parent}.")
    for argument in arguments:
        if argument.startswith("-"):
            raise RequestError(f"'{argument}' is no option of lineage.{nearest(argument, ['--json'])}")
    return [Path(path) for path in arguments or ["outputs"]], target
