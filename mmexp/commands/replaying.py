"""A finished run's own command, put again with other ends."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmexp.errors import RequestError

# What belongs to how a run was trained, and not to what it is.
_TRAINING = re.compile(r"(hydra\.|resume=|resume_allow=|init_from=|train=|evaluate=|name=|sweep\.|budget\.|continual=)")


def record_of(run: Path) -> dict[str, Any]:
    """Return `run.json`. Raises RequestError for what is no run directory."""
    file = run / "run.json"
    if not file.is_file():
        raise RequestError(f"'{run}' is not a run directory: it has no run.json.")
    return json.loads(file.read_text())


def runs_and_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the run directories and the overrides of a command line. A directory may have `=` in its name."""
    runs = [word for word in words if "=" not in word or (Path(word) / "run.json").is_file()]
    return runs, [word for word in words if word not in runs]


def own_overrides(record: dict[str, Any], more: Sequence[str]) -> list[str]:
    """Return the overrides that say what a run is, but those that `more` put anew, and of its data where they choose others."""
    other_data = any(one.startswith("data=") for one in more)
    again = {one.lstrip("+~").partition("=")[0] for one in more}
    return [
        own
        for own in record["overrides"]
        if not _TRAINING.match(own.lstrip("+~"))
        and own.lstrip("+~").partition("=")[0] not in again
        and not (other_data and own.lstrip("+~").startswith("data"))
    ]
