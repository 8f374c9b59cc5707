"""`mmexp evaluate`: finished runs measured again, on their own data or any other, side by side."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from mmexp.commands import train
from mmexp.commands.replaying import own_overrides, record_of
from mmexp.compose import flags_first
from mmexp.errors import RequestError


def main(arguments: Sequence[str]) -> int:
    """Measure each run that is named, with the overrides behind; print one table. Returns the first status that is not 0."""
    flags, words = flags_first(arguments)
    runs = [Path(word) for word in words if "=" not in word]
    overrides = [word for word in words if "=" in word]
    if not runs:
        raise RequestError("mmexp evaluate: name a run directory: mmexp evaluate outputs/runs/NAME [KEY=VALUE ...].")
    records = {run: record_of(run) for run in runs}
    places = [Path("outputs/evaluations") / f"{os.environ['MMEXP_STAMP']}-{i}-{run.name}" for i, run in enumerate(runs)]
    for (run, record), place in zip(records.items(), places, strict=True):
        more = [f"init_from={run}", "train=false", "evaluate=true", f"name={run.name}", f"hydra.run.dir={place}"]
        own = own_overrides(record, overrides)
        if status := train.main([*own, *overrides, *more, *flags]):
            return status
    if len(runs) > 1:
        _print(dict(zip(map(str, runs), places, strict=True)))
    return 0


def _print(places: dict[str, Path]) -> None:
    from rich.console import Console
    from rich.table import Table

    from mmexp.runs.table import in_words, shown

    found = {run: json.loads((place / "metrics.json").read_text()) for run, place in places.items()}
    names = [name for name in dict.fromkeys(name for metrics in found.values() for name in metrics) if _telling(name)]
    table = Table("split", "measure", *found, box=None, padding=(0, 2, 0, 0))
    for name in names:
        split, _, metric = name.rpartition("/")
        table.add_row(split, in_words(metric), *(shown(metric, metrics.get(name)) for metrics in found.values()))
    Console().print(table)


def _telling(name: str) -> bool:
    return not name.endswith(("_chance", "candidates")) and "loss" not in name
