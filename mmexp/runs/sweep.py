"""What is known of a sweep once all of its runs have ended."""

import json
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from mmexp.errors import RequestError


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
    """A Hydra callback that prints the sweep's table when its last run has ended. `begun` is the sweep under way."""

    begun: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Remember where the sweep writes."""
        Summary.begun = Path(config.hydra.sweep.dir)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the tables to standard output."""
        from rich.console import Console

        from mmexp.runs.sweep_table import seeds_table, sweep_table

        directory = Path(config.hydra.sweep.dir)
        rows = rows_of(directory)
        if rows:
            console = Console()
            console.print(sweep_table(rows))
            if means := seeds_table(rows):
                console.print(means)
            if "wandb" in (config.logger or {}):
                from mmexp.training.wandb_run import log_comparison

                _write_page(directory)
                log_comparison(config.logger.wandb, str(config.sweep.name), directory, rows)
            print(f"sweep: {directory}", file=sys.stdout)
            print(f"which choice mattered: mmexp compare {directory}", file=sys.stdout)


def _write_page(directory: Path) -> None:
    """Write `comparison.html` into a sweep, where there is anything to compare."""
    from mmexp.comparison.page import write_page
    from mmexp.comparison.reading import read
    from mmexp.comparison.statistics import compare

    with suppress(RequestError):
        write_page(compare(read([directory])), directory / "comparison.html")
