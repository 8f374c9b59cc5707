"""Metrics in human words, and the tables that close a run or a sweep in the terminal."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

_RECALL = re.compile(r"(\w+?)_to_(\w+)_(r\d+|median_rank)$")
_SHARE = re.compile(r"(_r\d+|accuracy|f1_macro)$")
_TELLING = ("text_to_image_r1", "text_to_image_r10", "image_to_text_r1", "image_to_text_r10")
_NAMES = {"bleu4": "BLEU-4", "cider": "CIDEr"}
_SPLITS = {"test": 0, "val": 1, "train": 3}  # any further evaluation set is told before `train`
_STATUS = {"completed": "green", "failed": "red", "interrupted": "yellow", "running": "cyan"}


@dataclass(frozen=True)
class Number:
    """One metric of one split: its final value, the one before training and the one of guessing, where known."""

    split: str
    metric: str
    final: float | None
    start: float | None = None
    chance: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times better than guessing, None where that says nothing."""
        return self.final / self.chance if self.chance and self.final is not None else None

    @property
    def words(self) -> str:
        """The metric as a person says it."""
        return in_words(self.metric)

    @property
    def is_share(self) -> bool:
        """Whether the value is a part of 1, told in per cent."""
        return bool(_SHARE.search(self.metric))


def read_numbers(metrics: dict[str, float]) -> list[Number]:
    """Join the flat `metrics` to one `Number` a split and metric, the most telling first. Candidates are left out."""
    names = {name.removeprefix("start/") for name in metrics if not name.endswith(("_chance", "candidates"))}
    found = []
    for name in names:
        split, _, metric = name.rpartition("/")
        values = (metrics.get(key) for key in (name, f"start/{name}", f"{name}_chance"))
        found.append(Number(split, metric, *values))
    return sorted(found, key=lambda number: (_SPLITS.get(number.split, 2), number.split, _place(number.metric)))


def in_words(metric: str) -> str:
    """`text_to_image_r10` is text → image R@10."""
    if found := _RECALL.match(metric):
        query, key, what = found.groups()
        return f"{query} → {key} {what.replace('_', ' ') if what == 'median_rank' else 'R@' + what[1:]}"
    if metric == "f1_macro":
        return "F1 (macro)"
    if metric in _NAMES:
        return _NAMES[metric]
    if metric.startswith("loss_"):
        return f"loss, {metric.removeprefix('loss_').replace('_', ' ')}"
    return metric.replace("_", " ")


def falls(metric: str) -> bool:
    """Say whether less of it is better."""
    return any(word in metric.rpartition("/")[2] for word in ("loss", "error", "median_rank", "perplexity"))


def shown(metric: str, value: float | None, unit: bool = True) -> str:
    """Return `value` with as many digits as tell something: shares in per cent, a dash for none."""
    if value is None or not math.isfinite(value):
        return "–" if value is None else str(value)
    if _SHARE.search(metric):
        return f"{100 * value:.1f}" + ("\N{NO-BREAK SPACE}%" if unit else "")
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 1 else f"{value:.4g}"


def times(ratio: float | None) -> str:
    """Return `18×`, with a decimal where it matters; a dash for none."""
    return "–" if ratio is None else f"{ratio:.0f}×" if ratio >= 20 else f"{ratio:.1f}×"


def closing_table(metrics: dict[str, float]) -> Table:
    """Return the table that ends a run: a row a split, the most telling metrics, what they started from and times chance."""
    found = {(number.split, number.metric): number for number in read_numbers(metrics)}
    columns = _telling({metric for _, metric in found})
    table = _empty_table()
    table.add_column("split", style="bold", no_wrap=True)
    for metric in columns:
        table.add_column(_heading(metric), justify="right", no_wrap=True)
    for split in dict.fromkeys(split for split, _ in found):
        numbers = [found.get((split, metric)) for metric in columns]
        if any(numbers):
            table.add_row(Text(split), *map(_cell, numbers))
    notes = {
        "was: before training": any(number.start is not None for number in found.values()),
        "2× is twice as good as chance": any(number.ratio for number in found.values()),
    }
    table.caption = Text("; ".join(note for note, holds in notes.items() if holds), style="dim")
    return table


def sweep_table(rows: list[dict]) -> Table:
    """Return the table that ends a sweep, a row a run.

    A row has `number`, `status`, `choices` (from group or key to what was chosen) and `overrides`, and where
    the run got that far `metrics` (flat), `seconds` (else `wall_seconds`) and `error`. Of the choices only those that
    differ between the runs are shown.
    """
    choices = _differing([_choices(row) for row in rows])
    metrics = _main_metrics([row.get("metrics") or {} for row in rows])
    table = _empty_table()
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    for name in (*choices, "status"):
        table.add_column(Text(name.replace("/", "\n")), overflow="fold", no_wrap=name == "status")
    for name in metrics:
        split, _, metric = name.rpartition("/")
        table.add_column(Text(f"{split}\n").append(_heading(metric)), justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    # An error needs the whole width, so it stands below the rows and not in a column.
    errors = [f"{row.get('number', '')}: {_first_line(row['error'])}" for row in rows if row.get("error")]
    table.caption = Text("\n".join(errors), style="red") if errors else None
    best = {name: _best(name, rows) for name in metrics}
    for row in rows:
        table.add_row(*_sweep_cells(row, choices, best))
    return table


def _sweep_cells(row: dict, choices: Sequence[str], best: dict[str, float | None]) -> Iterable[Text]:
    """Return the cells of one run; the best value of every metric is bold."""
    status, seconds, values = (
        str(row.get("status", "")),
        row.get("seconds", row.get("wall_seconds")),
        row.get("metrics") or {},
    )
    yield Text(str(row.get("number", "")))
    yield from (Text(_choice(_choices(row).get(name))) for name in choices)
    yield Text(status, style=_STATUS.get(status, ""))
    for name, top in best.items():
        value = values.get(name)
        yield Text(shown(name, value, unit=False), style="bold" if value is not None and value == top else "")
    yield Text("–" if seconds is None else f"{seconds:,.0f}")


def _cell(number: Number | None) -> Text:
    """Return the final value, below it the one before training and times chance: side by side they would be too wide."""
    if number is None:
        return Text("–", style="dim")
    text = Text(shown(number.metric, number.final, unit=False), style="bold")
    if number.start is not None:
        text.append(f"\nwas {shown(number.metric, number.start, unit=False)}", style="not bold dim")
    if number.ratio is not None:
        text.append(f"\n{times(number.ratio)}", style="not bold green" if number.ratio > 1 else "not bold red")
    return text


def _telling(metrics: set[str]) -> list[str]:
    """Return the few metrics for a terminal's width; with more than two modalities R@10 alone of each direction."""
    others = sorted(m for m in metrics - set(_TELLING) if _RECALL.match(m) and m.endswith("_r10"))
    recalls = [m for m in _TELLING if m in metrics and (not others or m.endswith("_r10"))]
    return recalls + others + [m for m in ("matching_accuracy", "accuracy", "cider", "loss") if m in metrics]


def _main_metrics(runs: list[dict[str, float]], most: int = 4) -> list[str]:
    """Return the names of the metrics by which to compare `runs`, of the most telling split that has any."""
    numbers = read_numbers({name: value for run in runs for name, value in run.items()})
    split = numbers[0].split if numbers else ""
    telling = _telling({number.metric for number in numbers if number.split == split})
    brief = [m for m in telling if not m.endswith("_r1")]
    return [f"{split}/{metric}" if split else metric for metric in brief[:most]]


def _best(name: str, rows: list[dict]) -> float | None:
    """Return the best value that any run reached, None where there is nothing to compare."""
    values = [v for row in rows if (v := (row.get("metrics") or {}).get(name)) is not None and math.isfinite(v)]
    if len(values) < 2:
        return None
    return min(values) if falls(name) else max(values)


def _choices(row: dict) -> dict[str, Any]:
    """Return what was chosen for a run, and what else its overrides set, such as the seed."""
    pairs = (str(override).lstrip("+").partition("=") for override in row.get("overrides") or [])
    return {name: value for name, _, value in pairs} | (row.get("choices") or {})


def _differing(choices: list[dict[str, Any]]) -> list[str]:
    """Return the keys whose value is not the same in every run."""
    names = dict.fromkeys(name for one in choices for name in one)
    return [name for name in names if len({_choice(one.get(name)) for one in choices}) > 1]


def _choice(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, (list, tuple)) else "–" if value is None else str(value)


def _place(metric: str) -> tuple[int, str, int, str]:
    """Return the place of a metric in a table: retrieval by direction and k, shares, the rest, losses."""
    if found := _RECALL.match(metric):
        query, key, what = found.groups()
        return (0, f"{query != 'text'} {query} {key}", int(what[1:]) if what[1:].isdigit() else 1000, "")
    return (3 if metric.startswith("loss") else 1 if _SHARE.search(metric) else 2, "", 0, metric)


def _heading(metric: str) -> Text:
    """Return the metric as a narrow heading, a line each for query, answer and measure."""
    unit = " %" if _SHARE.search(metric) else ""
    return Text(re.sub(r" → (\w+) ", r" →\n\1\n", in_words(metric)).replace("matching ", "matching\n") + unit)


def _first_line(error: Any) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def _empty_table() -> Table:
    return Table(
        box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), header_style="bold", caption_justify="left"
    )
