"""What closes a sweep: its tables, and its comparison in W&B."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from mmexp.errors import RequestError
from mmexp.runs.sweep import rows_of


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

        from mmexp.runs.sweep_table import failures_table, fitted, seeds_table, sweep_table

        directory, rows = Path(config.hydra.sweep.dir), self.rows()
        if not rows:
            return
        console = Console(markup=False)
        for table in (fitted(sweep_table, rows, console), fitted(seeds_table, rows, console), failures_table(rows)):
            if table:
                console.print(table)
        if "wandb" in (config.logger or {}):
            _log_comparison(config, directory, rows)
        print(f"sweep: {directory}", file=sys.stdout)
        print(f"which choice mattered: mmexp compare {directory}", file=sys.stdout)


def _log_comparison(config: DictConfig, directory: Path, rows: list[dict[str, Any]]) -> None:
    """Write the page that compares the runs, where there is anything to compare, and hand it to W&B with their table."""
    from mmexp.comparison.page import write_page
    from mmexp.comparison.reading import read
    from mmexp.comparison.statistics import compare
    from mmexp.training.wandb_run import log_comparison

    with suppress(RequestError):
        write_page(compare(read([directory])), directory / "comparison.html")
    log_comparison(config.logger.wandb, str(config.sweep.name), directory, rows)
