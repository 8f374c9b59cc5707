"""How long it takes until something happens: help, the whole configuration, the first step of a run, each in its own process.

Beside them what they are built on, alone: argparse, a Hydra application, and a Lightning script with a small network.
"""

import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from contest import Contest, Goal, Numbers

BARE = Path(__file__).parent / "work"
TINY = (
    *("encoder=student", "fusion=none", "objective=contrastive", "budget.steps=1", "evaluate=false"),
    *("data.styles=[blob]", "data.batch_size=16"),
)


def contest(folder: Path, short: bool) -> Contest:
    """Return our commands and their peers; the short form is the same."""
    commands = {
        "mmexp --help": ["-m", "mmexp", "--help"],
        "argparse alone": ["-c", "import argparse; argparse.ArgumentParser().parse_args([])"],
        "mmexp train --cfg job": ["-m", "mmexp", "train", "--cfg", "job"],
        "Hydra application, --cfg job": [str(BARE / "bare_hydra.py"), "--cfg", "job"],
        "mmexp train, one step": ["-m", "mmexp", "train", *TINY],
        "Lightning script, one step": [str(BARE / "bare_lightning.py")],
    }
    names = list(commands)
    # Of a start: 0.1 s beside argparse's 0.03, 0.5 beside Hydra's 0.3, 5.5 beside Lightning's 6.4.
    limits = (0.03 / 0.1, 0.3 / 0.5, 6.4 / 5.5)
    goals = [Goal(ours, peer, limit) for ours, peer, limit in zip(names[::2], names[1::2], limits, strict=True)]
    ways = {name: partial(seconds, folder, command) for name, command in commands.items()}
    return Contest("Start", "seconds", ways, goals, less_is_better=True)


def seconds(folder: Path, command: list[str]) -> Numbers:
    """Return how long it takes until a command tells of its first step, or until it ends."""
    began = time.perf_counter()
    told: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, *command], cwd=folder, **told) as process:
        for line in process.stderr or ():
            if line.startswith("step 1"):
                return {"seconds": time.perf_counter() - began}
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return {"seconds": time.perf_counter() - began}
