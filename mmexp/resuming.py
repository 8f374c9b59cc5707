"""Where an interrupted run goes on."""

import csv
from pathlib import Path

import torch

from mmexp.errors import RequestError
from mmexp.request import Request


def resumed(request: Request) -> Path | None:
    """Return the checkpoint to go on from, None for a fresh start."""
    asked = request.config["resume"]
    if not asked:
        return None
    directory = request.directory if asked == "auto" else Path(asked)
    last = directory / "checkpoints" / "last.ckpt"
    if last.is_file():
        return last
    if asked == "auto":
        return None
    raise RequestError(f"resume={asked}: there is no {last}.")


def steps_before(checkpoint: Path | None) -> int:
    """Return how many steps were taken before a checkpoint was written, 0 without one."""
    return torch.load(checkpoint, weights_only=True, mmap=True)["global_step"] if checkpoint else 0


def rows_before(directory: Path, steps: int) -> list[dict[str, str]]:
    """Return the rows of `metrics.csv` that were logged in the first `steps` steps."""
    path = directory / "metrics.csv"
    if not steps or not path.is_file():
        return []
    with path.open() as stream:
        rows = [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(stream)]
    return [row for row in rows if int(row["step"]) < steps]
