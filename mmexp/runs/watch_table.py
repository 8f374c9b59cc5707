"""What `mmexp watch` shows: the runs that tell something, and what it comes to."""

from collections import Counter
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from mmexp.runs.table import empty_table, in_words, shown
from mmexp.runs.watching import Best, Watched, best, seconds_left

STYLES = {"running": "cyan", "died": "red", "failed": "red", "interrupted": "yellow", "done": "green", "waiting": "dim"}
_MOST = 24


def watch_table(runs: Sequence[Watched]) -> Table:
    """Return a row for each run, those under way and those that went wrong first; what does not fit is counted alone."""
    table = empty_table()
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("state", no_wrap=True)
    for name in ("step", "share", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    top = best(runs)
    columns = list(dict.fromkeys([top.selected, top.reported])) if top else []
    for name in columns:
        split, _, metric = name.rpartition("/")
        table.add_column(f"{split}\n{in_words(metric)}", justify="right")
    order = list(STYLES)
    known = [set(run.overrides) for run in runs if run.overrides]
    common = set.intersection(*known) if len(known) > 1 else set()
    for run in sorted(runs, key=lambda run: order.index(run.state))[:_MOST]:
        cells = _cells(run, [one for one in run.overrides if one not in common])
        for name in columns:
            cells.append(Text(shown(name, run.metrics.get(name)), style="bold" if top and run is top.run else ""))
        table.add_row(*cells)
    errors = [f"{run.name}: {run.error.strip().splitlines()[0]}" for run in runs if run.error]
    table.caption = Text("\n".join([*errors[:_MOST], summary(runs)]))
    return table


def _cells(run: Watched, what: Sequence[str]) -> list[Text]:
    step = "" if run.step is None else f"{run.step:,}" + (f"/{run.total_steps:,}" if run.total_steps else "")
    return [
        Text(run.name),
        Text(" ".join(override.lstrip("+") for override in what)),
        Text(run.state, style=STYLES[run.state]),
        Text(step),
        Text("" if run.share is None else f"{run.share:.0%}"),
        Text("" if run.seconds is None else duration(run.seconds)),
    ]


def summary(runs: Sequence[Watched]) -> str:
    """Return the line below the table: how many of each state, the time left, the best so far."""
    counts = Counter(run.state for run in runs)
    parts = [f"{counts[state]} {state}" for state in ("done", "running", "waiting", "failed", "died", "interrupted")]
    told = [", ".join(part for part in parts if not part.startswith("0 "))]
    left, top = seconds_left(runs), best(runs)
    if left is not None:
        told.append(f"about {duration(left)} left")
    if top:
        told.append(f"best so far: {_best(top)}")
    return "; ".join(told)


def _best(top: Best) -> str:
    """Return the best run, what it was chosen by, and what the test set says of it."""
    values = top.run.metrics
    chosen = f"{top.run.name}, {top.selected} {shown(top.selected, values[top.selected])}"
    if top.selected == top.reported:
        return chosen if top.selected.startswith("val/") else f"{chosen} (chosen on the test set: no val was measured)"
    return f"{chosen} (chosen by it), {top.reported} {shown(top.reported, values.get(top.reported))}"


def duration(seconds: float) -> str:
    """Return seconds as a person says them: `50 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
