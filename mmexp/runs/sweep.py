"""What is known of a sweep once all of its runs have ended."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


def rows_of(directory: Path) -> list[dict[str, Any]]:
    """Return `run.json` and `metrics.json` of every run below a sweep directory, in the order of their numbers."""
    rows = []
    for record in sorted(directory.glob("*/run.json"), key=lambda path: (len(path.parent.name), path.parent.name)):
        metrics = record.with_name("metrics.json")
        rows.append(
            {
                "number": record.parent.name,
                **json.loads(record.read_text()),
                "metrics": json.loads(metrics.read_text()) if metrics.is_file() else {},
            }
        )
    return rows


def remove_if_without_runs(directory: Path) -> None:
    """Remove a sweep that was refused: Hydra has then written its `multirun.yaml`, and nothing else."""
    if directory.is_dir() and [path.name for path in directory.iterdir()] == ["multirun.yaml"]:
        shutil.rmtree(directory)


class Summary(Callback):
    """A Hydra callback that prints the sweep's table when its last run has ended.

    `begun` is the sweep under way, `asked` the numbers of the runs that its command line asks for, None for all.
    """

    begun: Path | None = None
    asked: set[str] | None = None

    @classmethod
    def rows(cls) -> list[dict[str, Any]]:
        """Return the rows of the runs asked for."""
        every = rows_of(cls.begun) if cls.begun else []
        return [row for row in every if cls.asked is None or row["number"] in cls.asked]

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember where the sweep writes."""
        Summary.begun, Summary.asked = Path(config.hydra.sweep.dir), None

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the tables to standard output."""
        from rich.console import Console

        from mmexp.runs.sweep_table import failures_table, seeds_table, sweep_table

        if rows := self.rows():
            console = Console()
            console.print(sweep_table(rows))
            if means := seeds_table(rows):
                console.print(means)
            if failures := failures_table(rows):
                console.print(failures)
            print(f"sweep: {config.hydra.sweep.dir}", file=sys.stdout)
