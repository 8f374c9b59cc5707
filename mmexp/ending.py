"""How a run ends that does not end well: what is said of it, and what is written."""

import errno
import sys
import traceback
from collections.abc import Mapping
from typing import Any

from mmexp.errors import RequestError
from mmexp.runs.record import RunRecord

# As gloo, TCP and NCCL say it.
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG}


def conclude_record(record: RunRecord, found: Mapping[str, Any], status: str, error: str | None) -> None:
    """Write how the run ended; where the disk has no room for that either, say so."""
    try:
        record.update(**found)
        record.finish(status, error)
    except OSError as failure:
        print(f"mmexp: {record.directory / 'run.json'} cannot be written: {failure.strerror}.", file=sys.stderr)


def told(failure: Exception) -> str:
    """Say on standard error why a run failed: in one line what its user can mend, else with the traceback."""
    if isinstance(failure, RequestError | FloatingPointError):
        print(f"mmexp: {failure}", file=sys.stderr)
        # Of numbers gone bad a table has room for where and what.
        return str(failure).split(". ")[0] if isinstance(failure, FloatingPointError) else str(failure)
    if isinstance(failure, OSError) and failure.errno in NO_ROOM:
        line = f"{failure.filename or 'a file of the run'} cannot be written: {failure.strerror}."
        print(
            f"mmexp: {line} Checkpoints written before are whole: make room, and go on with resume=auto.",
            file=sys.stderr,
        )
        return line
    if any(words in str(failure) for words in LOST):
        line = "another process of this run has ended; its own error is above, or in its log"
        print(f"mmexp: {line}. resume=auto goes on from the last checkpoint.", file=sys.stderr)
        return line
    traceback.print_exc()
    return f"{type(failure).__name__}: {failure}"
