"""How far the run in a directory got."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DIED = "its process died (signal or out of memory)"
_WRITTEN = ("run.json", "config.yaml", "metrics.json", "metrics.csv", "report.html")


def run_of(directory: Path) -> dict[str, Any]:
    """Return the `run.json` of a run directory; `{"status": "waiting"}` where there is none."""
    file = directory / "run.json"
    return json.loads(file.read_text()) if file.is_file() else {"status": "waiting"}


def goes_on(run: Mapping[str, Any]) -> bool:
    """Say whether a run that nobody works on was broken off; one that failed by itself would fail again."""
    return run["status"] in ("running", "interrupted") or run.get("error") == DIED


def state_of(directory: Path, fingerprint: str) -> str:
    """Return whether the run that stands in a directory is `new`, `done`, `broken off`, or `failed`, for this request."""
    run = run_of(directory)
    if run["status"] == "waiting" or run.get("fingerprint", fingerprint) != fingerprint:
        return "new"
    return "done" if run["status"] == "completed" else "broken off" if goes_on(run) else "failed"


def clear(directory: Path) -> None:
    """Remove what a failed run left, so that another attempt starts afresh."""
    for name in _WRITTEN:
        (directory / name).unlink(missing_ok=True)
    for folder in ("checkpoints", "wandb", "tensorboard"):
        shutil.rmtree(directory / folder, ignore_errors=True)
