"""What is known of the runs of a sweep."""

import json
import shutil
from pathlib import Path
from typing import Any


def rows_of(directory: Path) -> list[dict[str, Any]]:
    """Return `run.json` and `metrics.json` of every run below a sweep directory, in the order of their numbers."""
    rows = []
    for record in sorted(directory.glob("*/run.json"), key=lambda path: (len(path.parent.name), path.parent.name)):
        metrics = record.with_name("metrics.json")
        rows.append(
            {
                "number": record.parent.name,
                **json.loads(record.read_text()),
                "metrics": json.loads(metrics.read_text()) if metrics.is_file() else {},
            }
        )
    return rows


def remove_if_without_runs(directory: Path) -> None:
    """Remove a sweep that was refused: Hydra has then written its `multirun.yaml`, and nothing else."""
    if directory.is_dir() and [path.name for path in directory.iterdir()] == ["multirun.yaml"]:
        shutil.rmtree(directory)
