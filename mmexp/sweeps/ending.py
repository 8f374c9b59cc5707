"""SIGINT and SIGTERM end a sweep: what is under way with a checkpoint, and nothing further begins."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from mmexp.runs.holding import held, holding
from mmexp.runs.state import run_of

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Ended(KeyboardInterrupt):
    """A signal ended the sweep; `status` is the process's exit status. No Exception, or Hydra would keep it to itself."""

    def __init__(self, status: int):
        super().__init__(f"ended by {signal.Signals(status - 128).name}")
        self.status = status


@dataclass
class Ending:
    """Whether a signal came, and which."""

    came: int | None = None


@contextmanager
def listening(directory: Path) -> Iterator[Ending]:
    """Listen for signals while runs of the sweep in `directory` are under way.

    A run in this process ends by Ended; to those in others the signal is handed on, and a file tells those not begun.
    A second signal of a kind ends at once.
    """
    ending = Ending()

    def note(number: int, frame: FrameType | None) -> None:
        if holding(directory) or ending.came == number:
            raise Ended(128 + number)
        ending.came = number
        _mark(directory, os.getpid()).touch()
        _hand_on(directory)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _mark(directory, os.getpid()).unlink(missing_ok=True)


def ends(directory: Path, sweeper: int) -> bool:
    """Say whether the sweep in `directory` is to end that the process `sweeper` runs."""
    return _mark(directory, sweeper).exists()


def _mark(directory: Path, sweeper: int) -> Path:
    return directory / f".ending-{sweeper}"


def _hand_on(directory: Path) -> None:
    for place in (path.parent for path in directory.glob("*/run.json")):
        run = run_of(place)
        own = (run.get("sweeper"), run.get("host")) == (os.getpid(), socket.gethostname())
        if run["status"] == "running" and own and held(place):
            os.kill(run["pid"], signal.SIGTERM)
