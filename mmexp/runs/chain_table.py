"""The table that ends a chain: a column a stage, a row for everything that is told of it."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from mmexp.runs.table import empty_table, in_words, read_numbers, shown, telling

_SPLITS = ("test", "test_cross_style")


def chain_table(stages: Sequence[dict[str, Any]]) -> Table:
    """Return the table of `chain.json`: of each stage quality, size, speed and time.

    Below a metric stands what the loaded weights measured on the same data before the stage.
    """
    table = empty_table()
    table.add_column("")
    for stage in stages:
        table.add_column(Text(stage["stage"]), justify="right", no_wrap=True)
    for name in _metrics(stages):
        split, _, metric = name.rpartition("/")
        table.add_row(f"{split}: {in_words(metric)}", *(_quality(name, stage["metrics"]) for stage in stages))
    for label, values in _costs(stages):
        table.add_row(label, *values)
    if any(f"start/{name}" in stage["metrics"] for name in _metrics(stages) for stage in stages):
        table.caption = Text("was: the loaded weights on the stage's own data, before training", style="dim")
    return table


def _metrics(stages: Sequence[dict[str, Any]]) -> list[str]:
    """Return the telling metrics of both test sets. Losses are left out: each stage has its own."""
    numbers = read_numbers({name: value for stage in stages for name, value in stage["metrics"].items()})
    by_split = {split: {n.metric for n in numbers if n.split == split} for split in _SPLITS}
    return [f"{split}/{metric}" for split in _SPLITS for metric in telling(by_split[split]) if metric != "loss"]


def _quality(name: str, metrics: dict[str, float]) -> Text:
    text = Text(shown(name, metrics.get(name)), style="bold")
    if name in metrics and (start := metrics.get(f"start/{name}")) is not None:
        text.append(f"\nwas {shown(name, start)}", style="not bold dim")
    return text


def _costs(stages: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return what the stages cost, and what their models do."""
    modalities = list(dict.fromkeys(name for stage in stages for name in stage["latency_ms"]))
    latencies = [
        (f"one {name}, p50 / p95, ms", [_latency(stage["latency_ms"].get(name)) for stage in stages])
        for name in modalities
    ]
    return [
        ("weights", [f"{stage['parameters']['total']:,}" for stage in stages]),
        ("of them trained", [f"{stage['parameters']['trainable']:,}" for stage in stages]),
        *latencies,
        ("rows a second, in batches", [f"{stage['rows_per_second']:,.0f}" for stage in stages]),
        ("weights for inference, MB", [f"{stage['megabytes']:.2f}" for stage in stages]),
        ("seconds", [f"{stage['wall_seconds']:,.0f}" for stage in stages]),
    ]


def _latency(times: dict[str, float] | None) -> str:
    return f"{times['p50']:.2f} / {times['p95']:.2f}" if times else "–"
