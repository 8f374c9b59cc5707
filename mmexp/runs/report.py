"""`report.html`: one self-contained page about a run, with its curves, numbers and pictures."""

import base64
import csv
import io
import json
import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml
from PIL import Image

from mmexp.runs.record import write_atomically
from mmexp.runs.table import Number, in_words, read_numbers, shown, times

_SIDE = 96  # pixels of an inlined picture
_MOST_CLASSES = 30
_LINES = 6  # colours that the template has for the lines of a chart
# matplotlib knows no CSS variables: it draws in these colours, and they are replaced so that both themes can be read.
_INK, _GRID = "#010203", "#010204"
_SERIES = [f"#0102{16 + i:02x}" for i in range(_LINES)]
_LEADING = ("encoder", "fusion", "adapter", "objective", "task", "data")


@dataclass
class Retrieved:
    """One answer: `score` is its similarity to the query, `right` whether it shows the same concept."""

    picture: Image.Image | None
    text: str
    score: float
    right: bool


@dataclass
class Query:
    """One query and its k answers, the best first."""

    picture: Image.Image | None
    text: str
    retrieved: list[Retrieved]


@dataclass
class Confusion:
    """`counts (C, C)`: rows are the true classes, columns the predicted ones."""

    classes: list[str]
    counts: np.ndarray


@dataclass
class Attention:
    """`heat (h, w)`, of any scale, lies over the whole `picture`; `text` is what looked at it."""

    picture: Image.Image
    heat: np.ndarray
    text: str


@dataclass
class Gallery:
    """The pictures of a report. `retrieval` goes from a block's title to its queries."""

    retrieval: dict[str, list[Query]]
    confusion: Confusion | None = None
    attention: list[Attention] = field(default_factory=list)


def write_report(directory: Path, gallery: Gallery) -> Path:
    """Write `directory/report.html` from the run's files and `gallery`; a file that is not there is left out."""
    text = _read(directory / "config.yaml")
    config = yaml.safe_load(text) or {}
    run = json.loads(_read(directory / "run.json") or "{}")
    metrics = json.loads(_read(directory / "metrics.json") or "{}")
    numbers = read_numbers(metrics)
    page = _template().render(
        name=str(config.get("name") or run.get("name") or directory.name),
        choices=_choices(config.get("choices") or run.get("choices") or {}),
        run=run,
        tiles=_tiles(numbers),
        splits=_by_split(numbers, metrics),
        curves=[curve for group in _history(directory / "metrics.csv").items() if (curve := _curve(*group))],
        gallery=gallery,
        confusion=_most_confused(gallery.confusion),
        facts=_facts(run),
        config=text,
    )
    path = directory / "report.html"
    write_atomically(path, page)
    return path


def _template() -> jinja2.Template:
    here = Path(__file__).parent
    loader = jinja2.FileSystemLoader(here, encoding="utf-8")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"inline": inline, "overlay": overlay}
    environment.globals |= {"shown": shown, "times": times}
    return environment.get_template("report.html.jinja")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _choices(choices: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the choices that make the method, in the order in which a person would tell them."""
    told = []
    for group in _LEADING:
        for name, value in choices.items():
            if name.split("/")[0] == group and value not in (None, [], {}):
                told.append((name.replace("/", " "), " + ".join(map(str, value)) if isinstance(value, list) else value))
    return told


def _tiles(numbers: list[Number], most: int = 4) -> list[dict[str, Any]]:
    """Return the headline numbers of the most telling split: R@10 by direction with R@1 beside, then the rest."""
    of_split = [n for n in numbers if n.split == numbers[0].split and n.final is not None]
    by_name = {n.metric: n for n in of_split}
    heads = [n for n in of_split if n.metric.endswith("_r10")]
    heads += [by_name[name] for name in ("accuracy", "matching_accuracy", "f1_macro", "loss") if name in by_name]
    return [
        {"number": n, "beside": by_name.get(re.sub("_r10$", "_r1", n.metric)) if "_r10" in n.metric else None}
        for n in heads[:most]
    ]


def _by_split(numbers: list[Number], metrics: dict[str, float]) -> list[dict[str, Any]]:
    """Return a table a split, with the number of candidates that its retrieval chose from."""
    splits: dict[str, list[Number]] = defaultdict(list)
    for number in numbers:
        splits[number.split].append(number)
    return [
        {"name": name or "run", "numbers": rows, "candidates": metrics.get(f"{name}/candidates")}
        for name, rows in splits.items()
    ]


Lines = dict[str, list[tuple[float, float]]]


def _history(path: Path) -> dict[str, Lines]:
    """Read `metrics.csv` to charts: every loss with a line a split, every retrieval direction with a line a recall."""
    charts: dict[str, Lines] = defaultdict(lambda: defaultdict(list))
    rows = csv.DictReader(io.StringIO(_read(path)))
    for place, row in enumerate(rows):
        step = _number(row.get("step"))
        for name, cell in row.items():
            split, _, metric = (name or "").rpartition("/")
            value = _number(cell)
            if split and value is not None and (chart := _chart(split, metric)):
                charts[chart[0]][chart[1]].append((place if step is None else step, value))
    return dict(sorted(charts.items(), key=lambda item: (not item[0].startswith("loss"), item[0])))


def _chart(split: str, metric: str) -> tuple[str, str] | None:
    """Return the chart and the line in it where a metric belongs, None for one that is not drawn."""
    if metric.startswith("loss") or metric.endswith("accuracy"):
        return in_words(metric), split
    if found := re.search(r"_r(\d+)$", metric):
        return f"{in_words(metric).rpartition(' ')[0]}, recall ({split})", f"R@{found[1]}"
    return None


def _number(cell: Any) -> float | None:
    """Return a cell as a number; None for an empty one and for what cannot be drawn."""
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _curve(title: str, lines: Lines) -> dict[str, Any]:
    """Draw one chart as inline SVG. Title and legend are the page's, so that they take its font and its colours."""
    import matplotlib
    from matplotlib.figure import Figure

    ink: Any = dict.fromkeys(("xtick.color", "ytick.color", "axes.labelcolor"), _INK)
    # Ids are shared by all SVG of a page: without a salt of its own one chart would clip and mark as another does.
    plain: Any = {"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 10, "text.parse_math": False}
    names = sorted(lines, key=lambda name: (name != "train", len(name), name))[:_LINES]
    with matplotlib.rc_context(ink | plain):
        figure = Figure(figsize=(4.4, 2.5), layout="constrained")
        axes = figure.add_subplot()
        for name, colour in zip(names, _SERIES, strict=False):
            # A step's own loss is noisy: it stays in the back, the sparse points of an evaluation in front.
            look = {"lw": 1, "alpha": 0.7} if len(lines[name]) > 60 else {"lw": 1.8, "marker": "o", "ms": 3.5}
            axes.plot(*zip(*sorted(lines[name]), strict=True), color=colour, **look)
        _dress(axes, share="recall" in title or title.endswith("accuracy"))
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True)
    return {"title": title, "names": names, "svg": _inline_svg(out.getvalue())}


def _dress(axes: Any, share: bool) -> None:
    """Leave of the axes what is needed to read a value."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)
    axes.grid(axis="y", color=_GRID, lw=0.8)
    axes.tick_params(length=0)
    axes.set_xlabel("step")
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if share:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


def _inline_svg(svg: str) -> str:
    """Return the bare `<svg>` element: no prologue, no metadata, no namespaces (HTML has them), the page's colours."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = svg.replace(_INK, "currentColor").replace(_GRID, "var(--line)")
    for place, colour in enumerate(_SERIES, 1):
        svg = svg.replace(colour, f"var(--s{place})")
    return svg


def inline(picture: Image.Image) -> str:
    """Return `picture` as a data URI of at most 96 pixels a side."""
    small = picture.convert("RGBA" if picture.mode in ("RGBA", "LA", "P") else "RGB")
    small.thumbnail((_SIDE, _SIDE))
    out = io.BytesIO()
    small.save(out, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"


def overlay(seen: Attention) -> Image.Image:
    """Return the picture with its heat over it: the more attention, the less of the picture and the warmer."""
    import matplotlib

    picture = seen.picture.convert("RGB")
    picture.thumbnail((_SIDE, _SIDE))
    heat = np.nan_to_num(np.asarray(seen.heat, dtype=np.float32))
    heat = (heat - heat.min()) / max(float(np.ptp(heat)), 1e-12)
    heat = np.asarray(Image.fromarray(heat).resize(picture.size, Image.Resampling.BICUBIC)).clip(0, 1)
    colour = matplotlib.colormaps["inferno"](heat)[..., :3] * 255
    alpha = 0.25 + 0.5 * heat[..., None]
    return Image.fromarray(((1 - alpha) * np.asarray(picture) + alpha * colour).astype(np.uint8))


def _most_confused(confusion: Confusion | None) -> dict[str, Any] | None:
    """Return the cells to draw; of many classes those with the most mistakes, for a page has no room for all."""
    if confusion is None or not len(confusion.classes):
        return None
    counts = np.asarray(confusion.counts)
    wrong = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    kept = np.sort(np.argsort(-wrong, kind="stable")[:_MOST_CLASSES])
    rows = counts.sum(1)
    cells = [
        {"row": i, "column": j, "count": int(counts[a, b]), "of": int(rows[a]), "share": float(counts[a, b] / rows[a])}
        for i, a in enumerate(kept)
        for j, b in enumerate(kept)
        if counts[a, b] > 0
    ]
    classes = [str(confusion.classes[i]) for i in kept]
    return {"classes": classes, "cells": cells, "all": len(counts), "accuracy": counts.trace() / max(counts.sum(), 1)}


def _facts(run: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what there is to know of how the run was made, as words and value."""
    parameters, git = run.get("parameters") or {}, run.get("git") or {}
    total, trainable = parameters.get("total"), parameters.get("trainable")
    facts = {
        "command": run.get("command"),
        "parents": run.get("parents"),
        "seed": run.get("seed"),
        "parameters": total and f"{total:,}" + (f", {trainable:,} trained" if trainable is not None else ""),
        "steps": _grouped(run.get("steps")),
        "samples seen": _grouped(run.get("samples_seen")),
        "speed": _grouped(run.get("samples_per_second"), " samples a second"),
        "training time": _duration(run.get("train_seconds")),
        "time in all": _duration(run.get("wall_seconds")),
        "peak memory": _memory(run.get("peak_memory_bytes")),
        "hardware": run.get("hardware"),
        "code": git and f"{git.get('commit', '')[:12]}" + (" with uncommitted changes" if git.get("dirty") else ""),
        "versions": run.get("versions"),
        "fingerprint": run.get("fingerprint"),
        "data": run.get("data_fingerprint"),
    }
    return [(name, _plain(value)) for name, value in facts.items() if value not in (None, "", [], {})]


def _plain(value: Any) -> str:
    """Return a value out of JSON as a person would write it."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items() if one not in (None, [], {}))
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)


def _grouped(value: float | None, unit: str = "") -> str | None:
    return None if value is None else f"{value:,.0f}{unit}" if value >= 10 else f"{value:.3g}{unit}"


def _duration(seconds: float | None) -> str | None:
    if seconds is None or seconds < 120:
        return None if seconds is None else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _memory(count: float | None) -> str | None:
    return None if count is None else f"{count / 2**30:.2f} GiB"
