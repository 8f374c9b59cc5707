"""The tables that close a sweep in the terminal: a row a run, and a row for what differs in its seed alone."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from mmexp.metrics import best_of
from mmexp.runs.choices import chosen, differing, written
from mmexp.runs.seeds import Interval, over_seeds
from mmexp.runs.table import empty_table, heading, read_numbers, shown, telling

MOST_METRICS = 4
_STATUS = {"completed": "green", "failed": "red", "interrupted": "yellow", "running": "cyan"}


def fitted(make: Callable[[list[dict], int], Table | None], rows: list[dict], console: Console) -> Table | None:
    """Return a table of `rows` that is no wider than the console, by leaving out the last of its metrics; a caption says so.

    Args:
        make: `sweep_table` or `seeds_table`.
        rows: as those take them.
        console: where it will be printed.
    """
    table = None
    for most in range(MOST_METRICS, 0, -1):
        table = make(rows, most)
        # As wide as it would like to be, no word broken.
        if (
            table is None
            or Measurement.get(console, console.options.update(width=10_000), table).maximum <= console.width
        ):
            break
    if table and most < MOST_METRICS:
        left_out = f"fewer metrics, for {console.width} columns; all are in the metrics.json of each run"
        table.caption = Text("\n".join(filter(None, (str(table.caption or ""), left_out))), style="dim")
    return table


def sweep_table(rows: list[dict], most: int = MOST_METRICS) -> Table:
    """Return the table that ends a sweep, a row a run, with `most` metrics at most.

    A row has `number`, `status`, `choices` (from group or key to what was chosen) and `overrides`, and where
    the run got that far `metrics` (flat) and `seconds` (else `wall_seconds`). Of the choices only those that differ
    between the runs are shown, and the status only where not all went well.
    """
    choices = differing([chosen(row) for row in rows])
    told = ["status"] if any(row.get("status") != "completed" for row in rows) else []
    metrics = main_metrics([row.get("metrics") or {} for row in rows], most)
    table = empty_table()
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    for name in (*choices, *told):
        table.add_column(_key_heading(name), overflow="fold", no_wrap=name == "status")
    for name in metrics:
        table.add_column(_metric_heading(name), justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    best = {name: _best(name, rows) for name in metrics}
    for row in rows:
        table.add_row(*_sweep_cells(row, choices, told, best))
    return table


def failures_table(rows: list[dict]) -> Table | None:
    """Return what failed and why, a row for each reason with all runs that it ended; None where nothing failed."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.get("status") not in ("completed", "running"):
            reasons.setdefault(_first_line(row.get("error") or row["status"]), []).append(str(row.get("number", "")))
    if not reasons:
        return None
    table = empty_table()
    table.add_column("failed", style="red")
    table.add_column("why", overflow="fold")
    for reason, numbers in reasons.items():
        table.add_row(Text(", ".join(numbers)), Text(reason))
    return table


def seeds_table(rows: list[dict], most: int = MOST_METRICS) -> Table | None:
    """Return the means over seeds with their 95 % intervals, a row for each set of other choices; None for single seeds."""
    finished = [row for row in rows if row.get("metrics")]
    groups = over_seeds(finished, [{k: written(v) for k, v in chosen(row).items()} for row in finished])
    if all(group["runs"] < 2 for group in groups):
        return None
    choices = differing([group["choices"] for group in groups])
    metrics = main_metrics([row["metrics"] for row in finished], most)
    table = empty_table()
    for name in (*choices, "seeds"):
        table.add_column(_key_heading(name), overflow="fold", no_wrap=name == "seeds")
    for name in metrics:
        table.add_column(_metric_heading(name), justify="right", no_wrap=True)
    means = [{"metrics": {name: one.mean for name, one in group["metrics"].items()}} for group in groups]
    best = {name: _best(name, means) for name in metrics}
    for group in groups:
        cells = [_interval(name, group["metrics"].get(name), best[name]) for name in metrics]
        table.add_row(*(Text(group["choices"].get(name, "–")) for name in choices), str(group["runs"]), *cells)
    table.caption = Text("mean ± half of the 95 % interval over seeds", style="dim")
    return table


def _interval(name: str, one: Interval | None, best: float | None) -> Text:
    if one is None:
        return Text("–")
    half = "" if one.half is None else f" ± {shown(name, one.half, unit=False)}"
    return Text(shown(name, one.mean, unit=False) + half, style="bold" if one.mean == best else "")


def _key_heading(name: str) -> Text:
    """Return a key or group as a narrow heading, a line for each of its parts."""
    return Text(name.replace("/", "\n").replace(".", ".\n"))


def _metric_heading(name: str) -> Text:
    split, _, metric = name.rpartition("/")
    return Text(f"{split}\n").append(heading(metric))


def _sweep_cells(
    row: dict, choices: Sequence[str], told: Sequence[str], best: dict[str, float | None]
) -> Iterable[Text]:
    """Return the cells of one run; the best value of every metric is bold."""
    seconds, values = row.get("seconds", row.get("wall_seconds")), row.get("metrics") or {}
    yield Text(str(row.get("number", "")))
    yield from (Text(written(chosen(row).get(name))) for name in choices)
    yield from (Text(str(row.get(name, "")), style=_STATUS.get(row.get(name, ""), "")) for name in told)
    for name, top in best.items():
        value = values.get(name)
        yield Text(shown(name, value, unit=False), style="bold" if value is not None and value == top else "")
    yield Text("–" if seconds is None else f"{seconds:,.0f}")


def main_metrics(runs: list[dict[str, float]], most: int = MOST_METRICS) -> list[str]:
    """Return the names of the metrics by which to compare `runs`, of the most telling split that has any."""
    numbers = read_numbers({name: value for run in runs for name, value in run.items()})
    split = numbers[0].split if numbers else ""
    brief = [m for m in telling({n.metric for n in numbers if n.split == split}) if not m.endswith("_r1")]
    # What every encoder can be asked, where some runs learned no common space.
    alike = sorted({n.metric for n in numbers if n.split == split and n.metric.endswith("neighbour_accuracy")})
    if brief and any(run and f"{split}/{brief[0]}" not in run for run in runs):
        brief = [*brief[:2], *(m for m in alike if m not in brief[:2]), *(m for m in brief[2:] if m not in alike)]
    return [f"{split}/{metric}" if split else metric for metric in brief[:most]]


def _best(name: str, rows: list[dict]) -> float | None:
    """Return the best value that any run reached, None where there is nothing to compare."""
    values = [v for row in rows if (v := (row.get("metrics") or {}).get(name)) is not None and math.isfinite(v)]
    if len(values) < 2:
        return None
    return best_of(values, name)


def _first_line(error: Any) -> str:
    return (str(error).strip().splitlines() or [""])[0]
