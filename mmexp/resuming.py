"""Where an interrupted run goes on."""

import csv
from pathlib import Path
from pickle import UnpicklingError

import torch

from mmexp.errors import RequestError
from mmexp.request import Request
from mmexp.runs.whole import damage, written


def resumed(request: Request) -> Path | None:
    """Return the checkpoint to go on from, None for a fresh start."""
    asked = request.config["resume"]
    if not asked:
        return None
    directory = request.directory if asked == "auto" else Path(asked)
    existing = written(directory)
    whole = next((file for file in existing if not damage(file)), None)
    if whole:
        return whole
    if existing:
        raise RequestError(
            f"resume={asked}: no checkpoint in {directory / 'checkpoints'} is whole ({existing[0].name}: {damage(existing[0])}). "
            "Remove the directory to start afresh."
        )
    if asked == "auto":
        return None
    raise RequestError(f"resume={asked}: there is no {directory / 'checkpoints' / 'last.ckpt'}.")


def discard_broken(directory: Path, start: Path | None) -> str | None:
    """Return in words that the newest checkpoint is broken and which one the run goes on from; None where it is not.

    A broken one of the run's own directory is removed: the next one written would put it in the place of the one before.
    """
    if start is None or start.name == "last.ckpt":
        return None
    last = start.with_name("last.ckpt")
    why = damage(last) if last.is_file() else "it is missing"
    if last.parent.parent.resolve() == directory.resolve():
        last.unlink(missing_ok=True)
    return f"{last} is broken ({why}): going on from {start.name}, step {steps_before(start)}"


def steps_before(checkpoint: Path | None) -> int:
    """Return how many steps were taken before a checkpoint was written, 0 without one.

    Raises RequestError for one that holds anything but tensors and plain values, which may be a stranger's code.
    """
    if checkpoint is None:
        return 0
    try:
        return torch.load(checkpoint, weights_only=True, mmap=True)["global_step"]
    except (UnpicklingError, RuntimeError, KeyError, TypeError) as error:
        raise RequestError(
            f"resume: '{checkpoint}' is no checkpoint of a run, or holds more than tensors and numbers, and is not loaded."
        ) from error


def rows_before(directory: Path, steps: int) -> list[dict[str, str]]:
    """Return the rows of `metrics.csv` that were logged in the first `steps` steps."""
    path = directory / "metrics.csv"
    if not steps or not path.is_file():
        return []
    with path.open() as stream:
        rows = [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(stream)]
    return [row for row in rows if int(row["step"]) < steps]
