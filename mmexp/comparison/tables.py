"""The comparison as tables, for the terminal and as Markdown."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.text import Text

from mmexp.comparison.choices import config_differences
from mmexp.comparison.costs import cost_of
from mmexp.comparison.statistics import status
from mmexp.comparison.types import Comparison, Difference, Run
from mmexp.runs.sweep_table import main_metrics
from mmexp.runs.table import empty_table, heading, shown

_MOST = 24  # rows of a table in the terminal
_BAR = 20
_COSTS = {
    "train_seconds": "train\nseconds",
    "wall_seconds": "wall\nseconds",
    "parameters": "weights",
    "trainable": "trained\nweights",
    "train_flops": "GFLOPs",
    "peak_memory_bytes": "peak\nMB",
}
_SCALE = {"train_flops": 1e9, "peak_memory_bytes": 1e6}
_STYLE = {"better": "green", "worse": "red", "completed": "green", "failed": "red", "running": "cyan"}


@dataclass(frozen=True)
class Sheet:
    """A table as text: the first `left` columns are words, the others numbers."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    notes: Sequence[str] = ()


def sheets(comparison: Comparison) -> Iterator[Sheet]:
    """Yield the tables that have something to tell, the statistics last."""
    yield _runs(comparison)
    two = comparison.runs if len(comparison.runs) == 2 else [one.runs[0] for one in comparison.configurations]
    if len(two) == 2 and (differing := config_differences(*two)):
        yield Sheet("What differs in config.yaml", ["key", *(run.name for run in two)], differing, left=3)
    if any(comparison.fronts.values()):
        yield _fronts(comparison)
    if any(one.low is not None for one in comparison.configurations):
        yield _configurations(comparison)
    if comparison.importance:
        yield _importance(comparison)
    if any(one.about != "configuration" for one in comparison.differences):
        yield _differences(comparison, whole=False)
    whole = [one for one in comparison.differences if one.about == "configuration"]
    # Of a search with one seed each there would be a row a run, and a verdict in none.
    if any(one.p is not None for one in whole) or 0 < len(whole) <= 10:
        yield _differences(comparison, whole=True)


def _heading(metric: str) -> str:
    split, _, name = metric.rpartition("/")
    return f"{split}\n{heading(name)}" if split else heading(name).plain


def _key(name: str) -> str:
    """Return a key as a narrow heading."""
    return name.replace("/", "/\n").replace(".", ".\n")


def _runs(comparison: Comparison) -> Sheet:
    """A row a run, the best by the metric that is chosen by first; those without it last."""
    metric, selected, sign = comparison.metric, comparison.selected, -1 if comparison.rises else 1
    choices = list(dict.fromkeys(key for run in comparison.runs for key in run.choices))
    told = any(status(run) != "completed" for run in comparison.runs)
    seeds = len({run.seed for run in comparison.runs}) > 1
    main = main_metrics([dict(run.metrics) for run in comparison.runs], most=2)
    names = list(dict.fromkeys([selected, metric, *main]))
    values = {run.name: sign * run.metrics.get(selected, math.nan) for run in comparison.runs}
    runs = sorted(comparison.runs, key=lambda run: v if math.isfinite(v := values[run.name]) else math.inf)
    headings = ["run", *(_key(key) for key in choices)]
    headings += ["seed"] * seeds + ["status"] * told + [_heading(name) for name in names]
    rows = [
        [run.name, *(run.choices.get(key, "–") for key in choices), *[str(run.seed)] * seeds, *[status(run)] * told]
        + [shown(name, run.metrics.get(name), unit=False) for name in names]
        for run in runs
    ]
    return Sheet("Runs", headings, rows, 1 + len(choices) + seeds + told)


def _fronts(comparison: Comparison) -> Sheet:
    """Return the runs that are on any front, marked at the costs where no other run is cheaper and as good."""
    metric, costs = comparison.selected, list(comparison.fronts)
    names = {name for front in comparison.fronts.values() for name in front}
    runs = sorted((run for run in comparison.runs if run.name in names), key=lambda run: run.metrics[metric])
    rows = [
        [run.name, shown(metric, run.metrics[metric], unit=False)]
        + [f"{'◆ ' * (run.name in comparison.fronts[cost])}{_cost(run, cost)}" for cost in costs]
        for run in (reversed(runs) if comparison.rises else runs)
    ]
    note = "◆ no other run is as good for less of this"
    return Sheet(
        "Quality against cost", ["run", _heading(metric), *(_COSTS[cost] for cost in costs)], rows, notes=[note]
    )


def _cost(run: Run, cost: str) -> str:
    value = cost_of(run, cost)
    if value is None:
        return "–"
    value /= _SCALE.get(cost, 1)
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _configurations(comparison: Comparison) -> Sheet:
    choices = list(comparison.configurations[0].choices)
    rows = [
        [
            *one.choices.values(),
            str(len(one.runs)),
            _number(comparison, one.mean),
            _interval(comparison, one.low, one.high),
        ]
        for one in comparison.configurations
    ]
    headings = [*(_key(key) for key in choices), "seeds", "mean", "95 % interval"]
    return Sheet("Configurations", headings, rows, len(choices))


def _importance(comparison: Comparison) -> Sheet:
    rows = [
        [
            one.group,
            f"{100 * one.share:.0f} %",
            "" if one.low is None or one.high is None else f"{100 * one.low:.0f} to {100 * one.high:.0f}",
            "█" * max(round(_BAR * one.share), 0),
        ]
        for one in comparison.importance
    ]
    return Sheet("Which choice matters", ["choice", "share of variance", "95 %", ""], rows)


def _differences(comparison: Comparison, whole: bool) -> Sheet:
    """Return the differences of choices, or those of the best configuration from the others."""
    found = [one for one in comparison.differences if (one.about == "configuration") == whole]
    rows = [
        [_other(one) if whole else f"{one.about}:\n{one.first} against {one.second}", *_judged(comparison, one)]
        for one in found
    ]
    notes = [f"the best is {found[0].first}; what the others have instead"] if whole else []
    if any(one.p is not None for one in found):
        notes.append("p: paired t test, after Holm over all differences; intervals are as wide as that asks")
    title = "The best configuration against the others" if whole else "What each choice changes, all else equal"
    headings = ["the best against" if whole else "choice", "pairs", "difference", "interval", "p", "verdict"]
    return Sheet(title, headings, rows, 1, notes)


def _other(one: Difference) -> str:
    """Return in what a configuration differs from the best."""
    best = one.first.split(" ")
    return " ".join(word for word in one.second.split(" ") if word not in best)


def _judged(comparison: Comparison, one: Difference) -> list[str]:
    p = "–" if one.corrected is None else f"{one.corrected:.3f}" if one.corrected >= 0.0005 else "< 0.001"
    gap = _number(comparison, one.mean)
    interval = _interval(comparison, one.low, one.high)
    return [str(one.pairs), gap if one.mean < 0 else f"+{gap}", interval, p, one.verdict]


def _number(comparison: Comparison, value: float) -> str:
    """Return a value of the metric to the digit that is the fourth of the means: differences need no more."""
    scale = max((abs(one.mean) for one in comparison.configurations), default=1.0)
    if shown(comparison.metric, scale, unit=False) != shown("", scale):
        return shown(comparison.metric, value, unit=False).replace("-", "−")
    digits = max(0, 3 - math.floor(math.log10(scale))) if scale else 3
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def _interval(comparison: Comparison, low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{_number(comparison, low)} to {_number(comparison, high)}"


def as_table(sheet: Sheet) -> Group:
    """Return a sheet for the terminal."""
    table = empty_table()
    table.title, table.title_justify, table.title_style = sheet.title, "left", "bold"
    for place, name in enumerate(sheet.headings):
        words = place < sheet.left or name in ("", "verdict")
        justify: Any = "left" if words else "right"
        table.add_column(Text(name), justify=justify, overflow="fold", no_wrap=place >= sheet.left)
    for row in sheet.rows[:_MOST]:
        table.add_row(*(Text(cell, style=_STYLE.get(cell, "")) for cell in row))
    more = [f"and {len(sheet.rows) - _MOST} more: see --markdown or --csv"] if len(sheet.rows) > _MOST else []
    return Group(table, *(Text(note, style="dim") for note in [*sheet.notes, *more]))


def as_markdown(sheet: Sheet) -> str:
    """Return a sheet as GitHub shows tables."""

    def line(cells: Sequence[str]) -> str:
        whole = (cell.replace("/\n", "/").replace(".\n", ".").replace("\n", " ") for cell in cells)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in whole) + " |"

    rule = ["---" if place < sheet.left else "---:" for place in range(len(sheet.headings))]
    lines = [f"### {sheet.title}", "", line(sheet.headings), line(rule), *map(line, sheet.rows)]
    return "\n".join([*lines, *(f"\n{note}" for note in sheet.notes)]) + "\n"
