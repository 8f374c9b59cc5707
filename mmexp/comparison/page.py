"""The interactive page of a comparison: one HTML file that needs no network."""

from collections.abc import Sequence
from pathlib import Path

import jinja2

from mmexp.comparison.page_data import page_data
from mmexp.comparison.types import Comparison, Configuration, Difference
from mmexp.comparison.writing import finite
from mmexp.runs.record import write_atomically
from mmexp.runs.table import in_words, shown

_HERE = Path(__file__).parent
_SCRIPTS = ("common", "table", "statistics", "plots", "curves", "pictures")


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the page about `comparison` to `path`; links to the runs' own pages are relative to it."""
    import plotly.offline

    folders = [_HERE, _HERE.parent / "runs"]
    loader = jinja2.FileSystemLoader(folders, encoding="utf-8")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {}  # in the order that is given, the most telling first
    page = environment.get_template("page.html.jinja").render(
        title=f"{len(comparison.runs)} runs side by side",
        verdict=verdict(comparison),
        notes=comparison.notes,
        data=finite(page_data(comparison, path)),
        style=_asset("page.css"),
        plotly=plotly.offline.get_plotlyjs(),
        scripts=[_asset(f"{name}.js") for name in _SCRIPTS],
    )
    write_atomically(path, page)


def _asset(name: str) -> str:
    return (_HERE / "assets" / name).read_text(encoding="utf-8")


def verdict(comparison: Comparison) -> str:
    """Return in one sentence which configuration is best, and against how many others that is more than luck."""
    sign = -1 if comparison.rises else 1
    measured = sorted(
        comparison.configurations, key=lambda one: sign * (one.mean if one.selected is None else one.selected)
    )
    if not measured:
        return f"No finished run has {comparison.metric}: there is nothing to tell apart."
    best = measured[0]
    told = f"{in_words(comparison.metric.rpartition('/')[2])} {_interval(comparison.metric, best)}"
    if len(measured) == 1:
        return f"There is one configuration: {told}."
    name = " ".join(f"{key}={value}" for key, value in best.choices.items())
    by = f" by {comparison.selected}" if comparison.selected != comparison.metric else ""
    return f"{name} has the best mean{by}: {told}; {_how_sure(_rivals(comparison, best))}."


def _interval(metric: str, one: Configuration) -> str:
    count = len(one.runs)
    over = f"over {count} seeds" if count > 1 else "from a single seed"
    if one.low is None or one.high is None:
        return f"{shown(metric, one.mean)} {over}"
    ends = f"[{shown(metric, one.low, unit=False)} to {shown(metric, one.high)}]".replace("-", "−")
    return f"{shown(metric, one.mean)} {ends} {over}"


def _rivals(comparison: Comparison, best: Configuration) -> list[Difference]:
    """Return the differences from the best configuration; where a single choice is compared these are the choice's own."""
    whole = [one for one in comparison.differences if one.about == "configuration"]
    if whole or len(best.choices) != 1:
        return whole
    ((about, value),) = best.choices.items()
    return [one for one in comparison.differences if one.about == about and value in (one.first, one.second)]


def _how_sure(differences: Sequence[Difference]) -> str:
    """Say how many differences from the best configuration are more than luck."""
    verdicts = [one.verdict for one in differences]
    close = verdicts.count("too close to call")
    if not verdicts:
        return "whether that is more than luck was not tested"
    if not close:
        return "it is told apart from every other" if len(verdicts) > 1 else "the two are told apart"
    if close == len(verdicts):
        return "too close to call against every other" if close > 1 else "too close to call against the other"
    return f"too close to call against {close} of {len(verdicts)} others"
