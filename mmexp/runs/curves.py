"""The history of a run as charts: `metrics.csv` to inline SVG."""

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmexp.runs.table import in_words

_LINES = 6  # colours that the template has for the lines of a chart
# matplotlib knows no CSS variables: it draws in these colours, and they are replaced so that both themes can be read.
INK, _GRID = "#010203", "#010204"
SERIES = [f"#0102{16 + i:02x}" for i in range(_LINES)]

Lines = dict[str, list[tuple[float, float]]]


def history(path: Path) -> dict[str, Lines]:
    """Read `metrics.csv` to charts: every loss with a line a split, every retrieval direction with a line a recall.

    What was measured only once, such as the test sets, is no line.
    """
    charts: dict[str, Lines] = defaultdict(lambda: defaultdict(list))
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8") if path.exists() else ""))
    for place, row in enumerate(rows):
        step = _number(row.get("step"))
        for name, cell in row.items():
            split, _, metric = (name or "").rpartition("/")
            value = _number(cell)
            if split and value is not None and (chart := _chart(split, metric)):
                charts[chart[0]][chart[1]].append((place if step is None else step, value))
    charts = {title: {n: points for n, points in lines.items() if len(points) > 1} for title, lines in charts.items()}
    charts = {title: lines for title, lines in charts.items() if lines}
    return dict(sorted(charts.items(), key=lambda item: (not item[0].startswith("loss"), item[0])))


def _chart(split: str, metric: str) -> tuple[str, str] | None:
    """Return the chart and the line in it where a metric belongs, None for one that is not drawn."""
    if metric.startswith("loss") or metric.endswith("accuracy") or metric in ("bleu4", "cider", "caption_perplexity"):
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


def draw(title: str, lines: Lines) -> dict[str, Any]:
    """Draw one chart as inline SVG. Title and legend are the page's, so that they take its font and its colours."""
    names = sorted(lines, key=lambda name: (name != "train", len(name), name))[:_LINES]

    def paint(axes: Any) -> None:
        for name, colour in zip(names, SERIES, strict=False):
            # A step's own loss is noisy: it stays in the back, the sparse points of an evaluation in front.
            look = {"lw": 1, "alpha": 0.7} if len(lines[name]) > 60 else {"lw": 1.8, "marker": "o", "ms": 3.5}
            axes.plot(*zip(*sorted(lines[name]), strict=True), color=colour, **look)
        _dress(axes, share="recall" in title or title.endswith("accuracy"))

    return {"title": title, "names": names, "svg": painted(title, paint)}


def painted(title: str, paint: Callable[[Any], None], size: tuple[float, float] = (4.4, 2.5)) -> str:
    """Return as inline SVG what is painted on plain axes of a size in inches, in the colours `SERIES`."""
    import matplotlib
    from matplotlib.figure import Figure

    ink: Any = dict.fromkeys(("xtick.color", "ytick.color", "axes.labelcolor"), INK)
    # Ids are shared by all SVG of a page: without a salt of its own one chart would clip and mark as another does.
    plain: Any = {"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 10, "text.parse_math": False}
    with matplotlib.rc_context(ink | plain):
        # At a fixed place: to find one that fits takes as long as the drawing itself.
        figure = Figure(figsize=size)
        axes = figure.add_axes((0.12, 0.19, 0.86, 0.78))
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(_GRID)
        axes.tick_params(length=0)
        paint(axes)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True)
    return inline_svg(out.getvalue())


def _dress(axes: Any, share: bool) -> None:
    """Leave of the axes what is needed to read a value."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.grid(axis="y", color=_GRID, lw=0.8)
    axes.set_xlabel("step")
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if share:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


def inline_svg(svg: str) -> str:
    """Return the bare `<svg>` element: no prologue, no metadata, no namespaces (HTML has them), the page's colours."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = svg.replace(INK, "currentColor").replace(_GRID, "var(--line)")
    for place, colour in enumerate(SERIES, 1):
        svg = svg.replace(colour, f"var(--s{place})")
    return svg
