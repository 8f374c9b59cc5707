"""The family of runs as a tree in the terminal, and as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text
from rich.tree import Tree

from mmexp.metrics import higher_is_better
from mmexp.runs.lineage import Origin, Run, changes
from mmexp.runs.sweep_table import main_metrics
from mmexp.runs.table import in_words, shown


def compared(runs: Sequence[Run]) -> list[str]:
    """Return the metrics to tell of all `runs`: losses only where there is nothing else, for they differ by objective."""
    names = main_metrics([run.metrics for run in runs if run.metrics])
    return [name for name in names if not name.endswith("/loss")] or names


def family_tree(runs: Sequence[Run]) -> Tree:
    """Return each run once, below its first parent; what else it came from stands on its own line."""
    names = compared(runs)
    root = Tree(Text(f"{len(runs)} run{'s' if len(runs) > 1 else ''}"), guide_style="dim")
    children: dict[Path, list[Run]] = {}
    orphans: dict[tuple[str, str | None], list[Run]] = {}
    alone = []
    for run in runs:
        first = next((origin for origin in run.origins if origin.run), None) or next(iter(run.origins), None)
        if first is None:
            alone.append(run)
        elif first.run:
            children.setdefault(first.run.directory, []).append(run)
        else:
            orphans.setdefault((first.path, first.weights), []).append(run)
    for run in alone:
        _hang(root, run, children, names)
    for (path, weights), below in orphans.items():
        branch = root.add(_elsewhere(path, weights))
        for run in below:
            _hang(branch, run, children, names)
    return root


def _hang(above: Tree, run: Run, children: dict[Path, list[Run]], names: Sequence[str]) -> None:
    branch = above.add(_told(run, names))
    for child in children.get(run.directory, []):
        _hang(branch, child, children, names)


def _elsewhere(path: str, weights: str | None) -> Text:
    """Return the line of a parent that is no run among those found: a file of weights, or something that is gone."""
    is_file, is_run = Path(path).is_file(), (Path(path) / "run.json").is_file()
    text = Text(path, style="dim" if is_file else "red")
    note = (
        "a file of weights"
        if is_file
        else "not below these paths, or has other weights now"
        if is_run
        else "not found here"
    )
    return text.append(f"  {note}{f' (weights {weights})' if weights else ''}", style="dim")


def _told(run: Run, names: Sequence[str]) -> Text:
    """Return a run in up to three lines: what it is, what it came from, what it measured."""
    text = Text(run.name, style="bold").append(f"  {kind(run)}", style="not bold")
    if run.record.get("status") != "completed":
        text.append(f"  {run.record.get('status')}", style="not bold red")
    for origin in run.origins:
        text.append(f"\n{_from(origin)}", style="not bold dim")
    moved = changes(run, names)
    split = ""
    for name in names:
        if name in run.metrics:
            where, _, metric = name.rpartition("/")
            text.append("\n" if not split else "; ", style="not bold").append(f"{where}: " if where != split else "")
            text.append(f"{in_words(metric)} {shown(name, run.metrics[name])}", style="not bold")
            text.append(_change(name, moved.get(name)))
            split = where
    return text


def kind(run: Run) -> str:
    """Return task and adapter, and the number of weights, e.g. `finetune, lora, 0.9 M weights (30,720 trained)`."""
    choices, parameters = run.record.get("choices") or {}, run.record.get("parameters") or {}
    what = [str(choices[group]) for group in ("task", "adapter") if group in choices]
    if total := parameters.get("total"):
        trained = parameters.get("trainable", total)
        what.append(f"{total:,} weights" + (f" ({trained:,} trained)" if trained != total else ""))
    return ", ".join(what)


def _from(origin: Origin) -> str:
    word = "teacher" if origin.role == "teacher" else "weights of"
    return f"{word} {origin.run.name if origin.run else origin.path}"


def _change(name: str, difference: float | None) -> Text:
    """Return the difference with its sign, in green where it is for the better, in red where it is for the worse."""
    if not difference:
        return Text("")
    sign, higher = "+" if difference > 0 else "−", higher_is_better(name)
    style = "not bold" if higher is None else "not bold green" if (difference > 0) == higher else "not bold red"
    return Text(f" ({sign}{shown(name, abs(difference), unit=False)})", style=style)


def as_json(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the family as plain values: `found` is where a parent is now, None where it is not among the runs."""
    names = compared(runs)
    return [
        {
            "path": str(run.directory),
            "status": run.record.get("status"),
            **{group: (run.record.get("choices") or {}).get(group) for group in ("task", "adapter")},
            "fingerprint": run.record.get("fingerprint"),
            "parameters": run.record.get("parameters"),
            "metrics": {name: run.metrics[name] for name in names if name in run.metrics},
            "changes": changes(run, names),
            "parents": [
                {
                    "role": origin.role,
                    "path": origin.path,
                    "weights": origin.weights,
                    "found": str(origin.run.directory) if origin.run else None,
                }
                for origin in run.origins
            ],
        }
        for run in runs
    ]
