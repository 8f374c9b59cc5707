"""Metrics in human words, and the table that closes a run in the terminal."""

import math
import re
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

_RECALL = re.compile(r"(\w+?)_to_(\w+)_(r\d+|median_rank)$")
_SHARE = re.compile(r"(_r\d+|accuracy|f1_macro|mean_average_precision|forgetting|_transfer)$")
_TELLING = ("text_to_image_r1", "text_to_image_r10", "image_to_text_r1", "image_to_text_r10")
_ANSWERS = (
    "zero_shot_accuracy",
    "matching_accuracy",
    "accuracy",
    "mean_average_precision",
    "mean_absolute_error",
    "r2",
    "cider",
)
_SEQUENCE = ("average_accuracy", "forgetting")
# One cell of the matrix of a run over tasks in sequence, which is told as a whole.
_CELL = re.compile(r"continual/after_\d+_")
_NAMES = {"bleu4": "BLEU-4", "cider": "CIDEr", "r2": "R²", "f1_macro": "F1 (macro)"}
_SPLITS = {"continual": -1, "test": 0, "val": 1, "train": 3}  # any further evaluation set is told before `train`


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
    names = {
        name.removeprefix("start/")
        for name in metrics
        if not (name.endswith(("_chance", "candidates")) or _CELL.match(name))
    }
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
    if metric in _NAMES:
        return _NAMES[metric]
    if metric.startswith("loss_"):
        return f"loss, {metric.removeprefix('loss_').replace('_', ' ')}"
    return metric.replace("_", " ")


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
    found = {(n.split, n.metric): n for n in read_numbers(metrics) if n.split != "continual"}
    columns = telling({metric for _, metric in found})
    table = empty_table()
    table.add_column("split", style="bold", no_wrap=True)
    for metric in columns:
        table.add_column(heading(metric), justify="right", no_wrap=True)
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


def telling(metrics: set[str]) -> list[str]:
    """Return the few metrics for a terminal's width; with more than two modalities R@10 alone of each direction.

    Neighbours are told where there is nothing but losses.
    """
    others = sorted(m for m in metrics - set(_TELLING) if _RECALL.match(m) and m.endswith("_r10"))
    recalls = [m for m in _TELLING if m in metrics and (not others or m.endswith("_r10"))]
    answers = [m for m in (*_SEQUENCE, *_ANSWERS) if m in metrics]
    alike = sorted(m for m in metrics if m.endswith("neighbour_accuracy")) if not recalls + others + answers else []
    return recalls + others + answers + alike + [m for m in ("loss",) if m in metrics]


def _place(metric: str) -> tuple[int, str, int, str]:
    """Return the place of a metric in a table: retrieval by direction and k, shares, the rest, losses."""
    if found := _RECALL.match(metric):
        query, key, what = found.groups()
        return (0, f"{query != 'text'} {query} {key}", int(what[1:]) if what[1:].isdigit() else 1000, "")
    return (3 if metric.startswith("loss") else 1 if _SHARE.search(metric) else 2, "", 0, metric)


def heading(metric: str) -> Text:
    """Return the metric as a narrow heading, a line each for query, answer and measure."""
    unit = " %" if _SHARE.search(metric) else ""
    return Text(
        re.sub(r" → (\w+) ", r" →\n\1\n", in_words(metric))
        .replace("matching ", "matching\n")
        .replace("zero shot ", "zero shot\n")
        .replace(" neighbour ", "\nneighbour\n")
        + unit
    )


def empty_table() -> Table:
    """Return a table in the style of all tables here."""
    return Table(
        box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), header_style="bold", caption_justify="left"
    )
