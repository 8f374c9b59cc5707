"""A finished run's own command, put again with other ends."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmexp.errors import RequestError

# What belongs to how a run was trained, and not to what it is.
_TRAINING = re.compile(r"(hydra\.|resume=|resume_allow=|init_from=|train=|evaluate=|name=|sweep\.|budget\.|continual=)")

_TABLES = ("data.train", "data.val", "data.test")
_OF_ALL_DATA = ("data.batch_size", "data.num_workers")


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
    """Return the overrides that say what a run is, but those that `more` sets anew, and those of its data that do not fit others.

    Where `more` names the same choice of `data` again, its tables are others, and how they are read (columns, kinds) stays; of
    another choice only the size of a batch, which losses depend on, and the number of workers stay.
    """
    named = [one for one in more if one.startswith("data=")]
    same = bool(named) and named[-1] in record["overrides"]
    again = {_key(one) for one in more}
    return [
        own
        for own in record["overrides"]
        if not _TRAINING.match(own.lstrip("+~"))
        and _key(own) not in again
        and not (named and (_key(own) in _TABLES or (_is_of_data(own) and not same)))
    ]


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _is_of_data(override: str) -> bool:
    """Return whether an override is of one choice of `data`, and of no other."""
    key = _key(override)
    return key == "data" or (key.startswith("data.") and key not in _OF_ALL_DATA)
