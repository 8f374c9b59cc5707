"""That a run which is killed again and again ends as the one that was not: by trying it, in processes of their own."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmexp.errors import RequestError

PARTS = ("state_dict", "optimizer_states", "lr_schedulers", "global_step")


@dataclass
class Attempt:
    """One run directory, its order of samples beside it, and what its processes said."""

    folder: Path
    name: str
    overrides: Sequence[str]
    kills: list[str] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        """The run directory."""
        return self.folder / self.name

    @property
    def order(self) -> Path:
        """Which rows each step was trained on, one line for each step of each process."""
        return self.folder / f"{self.name}.order"

    def steps(self) -> list[tuple[int, str]]:
        """Return step and digest of its rows, in the order in which steps were begun; a line torn by a kill is none."""
        text = self.order.read_text() if self.order.is_file() else ""
        lines = [line.split() for line in text.splitlines() if line.count(" ") == 1]
        return [(int(step), rows) for step, rows in lines if len(rows) == 8]

    def start(self) -> subprocess.Popen[bytes]:
        """Start the run, or go on with it."""
        command = [sys.executable, "-m", "mmexp", "train", *self.overrides, "resume=auto"]
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{self.name}.log").open("ab") as log:
            return subprocess.Popen(
                [*command, f"hydra.run.dir={self.directory}"],
                stdout=log,
                stderr=log,
                env={**os.environ, "MMEXP_ORDER": str(self.order)},
                start_new_session=True,
            )

    def finish(self) -> None:
        """Run to the end. Raises RequestError with the last lines of what it said where it fails."""
        if self.start().wait():
            tail = (self.folder / f"{self.name}.log").read_text(errors="replace").strip().splitlines()[-3:]
            raise RequestError(f"the run to be tried fails by itself: {' | '.join(tail)}")

    def killed_when(self, is_time: Callable[[], bool]) -> bool:
        """Start it, and kill it with all its processes when it is time. Says whether it was still alive."""
        process = self.start()
        while process.poll() is None and not is_time():
            time.sleep(0.002)
        alive = process.poll() is None
        if alive:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if alive:
            last = self.steps()[-1:]
            self.kills.append(f"step {last[0][0]}" if last else "before the first step")
        return alive


def killed_at(attempt: Attempt, step: int, delay: float) -> bool:
    """Kill a run `delay` seconds after it began a step, or a later one. Says whether it was still alive."""
    reached: list[float] = []

    def is_time() -> bool:
        if not reached and any(begun >= step for begun, _ in attempt.steps()[-1:]):
            reached.append(time.monotonic())
        return bool(reached) and time.monotonic() - reached[0] >= delay

    return attempt.killed_when(is_time)


def differences(whole: Attempt, tried: Attempt) -> dict[str, str]:
    """Return what was compared, each with "" where it is equal, else in words what is not."""
    return {
        "order of samples": _orders(whole, tried),
        **_checkpoints(whole.directory, tried.directory),
        "metrics": _files(whole.directory, tried.directory, "metrics.json", json.loads),
        "history": _files(
            whole.directory, tried.directory, "metrics.csv", lambda text: list(csv.reader(text.splitlines()))
        ),
    }


def _orders(whole: Attempt, tried: Attempt) -> str:
    right = dict(whole.steps())
    for step, rows in tried.steps():
        if right.get(step) != rows:
            return f"step {step} was trained on other rows"
    missing = set(right) - {step for step, _ in tried.steps()}
    return f"step {min(missing)} was never trained" if missing else ""


def _checkpoints(whole: Path, tried: Path) -> dict[str, str]:
    import torch

    one, other = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (whole, tried))
    return {part: next(iter(_unlike(one[part], other[part], "")), "") for part in PARTS}


def _unlike(one: Any, other: Any, path: str) -> list[str]:
    import torch

    if isinstance(one, torch.Tensor):
        return [] if isinstance(other, torch.Tensor) and torch.equal(one, other) else [f"{path or 'it'} differs"]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"{path or 'it'} has other keys"]
        return [
            found for key, value in one.items() for found in _unlike(value, other[key], f"{path}.{key}".lstrip("."))
        ]
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return [f"{path or 'it'} has another length"]
        pairs = enumerate(zip(one, other, strict=True))
        return [found for i, (a, b) in pairs for found in _unlike(a, b, f"{path}.{i}".lstrip("."))]
    return [] if one == other else [f"{path or 'it'} is {other}, not {one}"]


def _files(whole: Path, tried: Path, name: str, read: Callable[[str], Any]) -> str:
    paths = [run / name for run in (whole, tried)]
    there = [path.is_file() for path in paths]
    if not all(there):
        return "" if not any(there) else f"{name} is there in one alone"
    one, other = (read(path.read_text()) for path in paths)
    return next(iter(_unlike(one, other, "")), "")


def drawn(steps: int, kills: int, seed: int) -> list[int]:
    """Return the steps at which to kill, in order."""
    return sorted(random.Random(seed).sample(range(1, steps), min(kills, steps - 1)))
