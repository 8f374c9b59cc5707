"""A run as W&B shows it: its configuration, the best of its evaluations, its final numbers, what was retrieved, its report."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from mmexp.metrics import higher_is_better
from mmexp.runs.choices import overridden
from mmexp.runs.report import Gallery, Query
from mmexp.runs.table import read_numbers
from mmexp.training.loggers import tell_where

# Characters.
LONGEST_TAG = 64


class RunLogger(WandbLogger):
    """Lightning's own, but the summary holds the best of what is measured on `val`, not the last."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers at a step of training."""
        for name in metrics:
            if name.startswith("val/") and name not in self._seen:
                self._seen.add(name)
                best = {True: "max", False: "min", None: "last"}[higher_is_better(name)]
                self.experiment.define_metric(name, step_metric="trainer/global_step", step_sync=True, summary=best)
        super().log_metrics(metrics, step)

    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        # W&B warns of it, whatever it says.
        del self._wandb_init["anonymous"]
        self._seen: set[str] = set()


def chosen_mode(mode: str) -> Any:
    """Return how W&B is to run: `auto` is what `WANDB_MODE` says, else online where there is a key, from wherever."""
    if mode != "auto":
        return mode
    return os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False, verify=False) else "offline")


def settings() -> wandb.Settings:
    """Return W&B's settings of all runs: what it would say itself, `announce` says in a line."""
    return wandb.Settings(silent=True)


def shown_config(value: Any) -> Any:
    """Return the nested keys of a run as its user sets them: without `_target_`."""
    if isinstance(value, Mapping):
        return {key: shown_config(one) for key, one in value.items() if not str(key).startswith("_")}
    return value


def tags_of(choices: Mapping[str, str], tags: Sequence[str]) -> list[str]:
    """Return a tag for each choice and the user's own, as long as W&B takes them."""
    chosen = [f"{group}={choice}" for group, choice in sorted(choices.items()) if choice != "None"]
    return [tag[:LONGEST_TAG] for tag in (*chosen, *tags)]


def earlier_id(directory: Path) -> str | None:
    """Return the id of the W&B run that a run directory holds, so that a resumed run goes on with it."""
    found = sorted(directory.glob("wandb/*run-*-*"))
    return found[-1].name.rpartition("-")[2] if found else None


def conclude(run: Any, directory: Path, metrics: Mapping[str, float], gallery: Gallery) -> None:
    """Log the final numbers but for those whose best is there, their table, what was retrieved, and the report."""
    run.summary.update({name: value for name, value in metrics.items() if not name.startswith("val/")})
    run.summary["metrics"] = metrics_table(metrics)
    for name, queries in gallery.retrieval.items():
        run.summary[f"retrieved/{name}"] = retrieved_table(queries)
    run.summary["report"] = wandb.Html(str(directory / "report.html"), inject=False)


def metrics_table(metrics: Mapping[str, float]) -> wandb.Table:
    """Return a row for each split and metric: its final value, the one before training, and that of guessing."""
    rows = [[n.split, n.metric, n.final, n.start, n.chance] for n in read_numbers(dict(metrics))]
    return wandb.Table(["split", "metric", "value", "before training", "chance"], rows)


def retrieved_table(queries: Sequence[Query]) -> wandb.Table:
    """Return a row for each answer to each query, the best first; pictures where there are any."""
    rows = [
        [query.text, _image(query.picture), place, one.right, one.score, one.text, _image(one.picture)]
        for query in queries
        for place, one in enumerate(query.retrieved, 1)
    ]
    columns: list[str | int] = ["query", "query picture", "place", "right", "similarity", "answer", "answer picture"]
    return wandb.Table(columns, rows, allow_mixed_types=True)


def _image(picture: Any) -> wandb.Image | None:
    return wandb.Image(picture) if picture is not None else None


def log_comparison(node: Mapping[str, Any], sweep: str, directory: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Log a sweep as one run beside its runs: a table of them, and the page that compares them where there is one.

    `node` is the configuration of the logger, `rows` are those of `mmexp.runs.sweep.rows_of`.
    """
    try:
        run = wandb.init(
            project=node["project"],
            entity=node["entity"],
            mode=chosen_mode(node["mode"]),
            name=f"comparison of {sweep}",
            group=sweep,
            job_type="comparison",
            tags=tags_of({}, node["tags"]),
            # W&B's service may be another process's, in another folder.
            dir=directory.absolute(),
            settings=settings(),
            reinit="finish_previous",
        )
    except wandb.Error as error:
        print(f"W&B: the comparison was not logged: {error}", file=sys.stderr)
        return
    run.summary["runs"] = runs_table(rows)
    page = directory / "comparison.html"
    if page.is_file():
        run.summary["page"] = wandb.Html(str(page), inject=False)
        artifact = wandb.Artifact(re.sub(r"[^\w.-]", "-", f"comparison-{sweep}"), type="comparison")
        artifact.add_file(str(page))
        run.log_artifact(artifact)
    tell_where(run)
    run.finish()


def runs_table(rows: Sequence[Mapping[str, Any]]) -> wandb.Table:
    """Return a row for each run of a sweep: what was set, how it ended, what it measured, and its seconds."""
    set_of = [overridden(row) for row in rows]
    keys = list(dict.fromkeys(key for one in set_of for key in one))
    metrics = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    cells = [
        [row["number"], *map(own.get, keys), row["status"], *map(row["metrics"].get, metrics), row.get("wall_seconds")]
        for own, row in zip(set_of, rows, strict=True)
    ]
    columns: list[str | int] = ["run", *keys, "status", *metrics, "seconds"]
    return wandb.Table(columns, cells, allow_mixed_types=True)
