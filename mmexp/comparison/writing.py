"""The comparison as files: JSON for programs, CSV for tables, Markdown for a page."""

import csv
import io
import json
import math
from typing import Any

from mmexp.comparison.costs import COSTS, cost_of
from mmexp.comparison.statistics import status
from mmexp.comparison.tables import as_markdown, sheets
from mmexp.comparison.types import Comparison, Run

SCHEMA = 1  # grows where a key changes its meaning or goes


def as_json(comparison: Comparison) -> str:
    """Return the comparison under the keys that docs/compare.md describes; what is not finite is null."""
    told = {
        "schema": SCHEMA,
        "metric": comparison.metric,
        "selected": comparison.selected,
        "rises": comparison.rises,
        "runs": [
            {**_facts(run), "choices": dict(run.choices), "metrics": dict(run.metrics)} for run in comparison.runs
        ],
        "configurations": [{**vars(one), "runs": [run.name for run in one.runs]} for one in comparison.configurations],
        "importance": [vars(one) for one in comparison.importance],
        "differences": [vars(one) for one in comparison.differences],
        "fronts": dict(comparison.fronts),
        "notes": list(comparison.notes),
    }
    return json.dumps(finite(told), indent=2, allow_nan=False) + "\n"


def _facts(run: Run) -> dict[str, Any]:
    where = None if run.directory is None else str(run.directory)
    facts = {"name": run.name, "directory": where, "status": status(run), "seed": run.seed}
    return facts | {cost: cost_of(run, cost) for cost in COSTS}


def finite(value: Any) -> Any:
    """Return plain data with None for numbers that are not finite, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_csv(comparison: Comparison) -> str:
    """Return a row a run: its facts, its choices, its metrics."""
    rows = [{**_facts(run), **run.choices, **run.metrics} for run in comparison.runs]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def markdown(comparison: Comparison) -> str:
    """Return all tables and notes."""
    notes = "".join(f"- {note}\n" for note in comparison.notes)
    return "\n".join([*map(as_markdown, sheets(comparison)), *([notes] if notes else [])])
