"""Whether the process of a run is still alive."""

import json
import os
import socket
from pathlib import Path


def held(directory: Path) -> bool:
    """Return whether the process that `run.json` names is there; of one on another machine it is taken for granted."""
    record = json.loads((directory / "run.json").read_text())
    if record.get("host") != socket.gethostname():
        return True
    try:
        os.kill(record["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
