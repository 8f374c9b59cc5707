"""What is known of each task after each: as a table for the terminal, as a heat map for the report."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from mmexp.runs.curves import INK, inline_svg
from mmexp.runs.table import empty_table


@dataclass
class Sequence:
    """`accuracy (K, T)` of T `tasks` at K `moments`, such as `after food`."""

    moments: list[str]
    tasks: list[str]
    accuracy: np.ndarray


def sequence_table(sequence: Sequence) -> Table:
    """Return the table that ends a run over tasks in sequence: a row a moment, a column a task."""
    table = empty_table()
    table.add_column("accuracy %", style="bold", no_wrap=True)
    for task in sequence.tasks:
        table.add_column(Text(task), justify="right")
    for moment, row in zip(sequence.moments, sequence.accuracy, strict=True):
        # What was just learned is bold, and falls below it are what was forgotten.
        cells = (
            Text(f"{100 * value:.1f}", style="bold" if moment == f"after {task}" else "")
            for task, value in zip(sequence.tasks, row, strict=True)
        )
        table.add_row(Text(moment), *cells)
    return table


def heat_map(sequence: Sequence) -> str:
    """Return the accuracies as inline SVG: rows are moments, columns are tasks, each cell with its per cent."""
    import matplotlib
    from matplotlib.figure import Figure

    plain: Any = {"svg.fonttype": "none", "svg.hashsalt": "sequence", "font.size": 9, "text.parse_math": False}
    plain |= dict.fromkeys(("xtick.color", "ytick.color"), INK)
    rows, columns = sequence.accuracy.shape
    with matplotlib.rc_context(plain):
        figure = Figure(figsize=(1.6 + 0.75 * columns, 0.8 + 0.36 * rows), layout="constrained")
        axes = figure.add_subplot()
        axes.pcolormesh(sequence.accuracy, cmap="Blues", vmin=0)
        axes.invert_yaxis()
        axes.set_xticks(np.arange(columns) + 0.5, sequence.tasks, rotation=30, ha="right")
        axes.set_yticks(np.arange(rows) + 0.5, sequence.moments)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        half = np.nanmax(sequence.accuracy) / 2
        for (row, column), value in np.ndenumerate(sequence.accuracy):
            axes.text(
                column + 0.5,
                row + 0.5,
                f"{100 * value:.0f}",
                ha="center",
                va="center",
                color="white" if value > half else "black",
            )
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True)
    return inline_svg(out.getvalue())
