"""Processes of a server end with the one that started them, even where that was killed."""

import ctypes
import signal
import sys

_PDEATHSIG = 1  # of Linux: prctl(2)


def end_with_parent() -> None:
    """Have the system send SIGTERM to this process when its parent is gone; on Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
