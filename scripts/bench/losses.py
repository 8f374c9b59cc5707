"""Forward and backward of the contrastive loss on vectors of 256: open_clip's on the whole matrix, and ours tile by tile.

Each is a process of its own: seconds are the least of three passes, megabytes are what the peak of its memory rose by.
"""

import json
from functools import partial
from pathlib import Path

from contest import Contest, Goal, Numbers
from work.commands import printed

WORK = Path(__file__).parent / "work" / "loss.py"
OURS, PEER = "tiles", "open_clip, whole matrix"


def contest(folder: Path, short: bool) -> Contest:
    """Return both for 16,384 rows, and tiles alone for 65,536; the short form has 4,096."""
    rows = 4096 if short else 16384
    ways = {
        f"{OURS}, {rows:,} rows": partial(one, folder, "tiled", rows),
        f"{PEER}, {rows:,} rows": partial(one, folder, "whole", rows),
    }
    goals = [Goal(*ways, 1 / 0.6)]
    if not short:
        ways |= {f"{OURS}, 65,536 rows": partial(one, folder, "tiled", 65536)}
        ways |= {f"sigmoid {OURS}, {rows:,} rows": partial(one, folder, "sigmoid", rows)}
    return Contest("Contrastive loss, forward and backward, 256-d", "seconds", ways, goals, less_is_better=True)


def one(folder: Path, kind: str, rows: int) -> Numbers:
    """Return what a process of its own measured."""
    return json.loads(printed([WORK, kind, rows], folder))
