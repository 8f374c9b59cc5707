"""What a run was made from: its parents, told so that they are found again where directories were moved."""

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

# What says where a run goes and how it computes, not what it is.
PASSING = ("name", "hardware", "logger", "sweep", "resume", "resume_allow", "cache", "trust")


def fingerprint(config: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that are equal where two configurations ask for the same training."""
    stable = {key: value for key, value in config.items() if key not in PASSING}
    return sha256(repr(sorted(stable.items())).encode()).hexdigest()[:16]


def checkpoints(directory: Path) -> list[Path]:
    """Return where a run's weights may be: its best checkpoint, else its last."""
    return [directory / "checkpoints" / name for name in ("best.ckpt", "last.ckpt")]


def home(path: Path) -> Path:
    """Return the run directory that a parent's path means: itself, or the one whose checkpoint it is."""
    return path.parent.parent if path.suffix == ".ckpt" else path


def weights_file(path: Path) -> Path | None:
    """Return the file whose weights a run directory or a weights file stands for, None where there is none."""
    return next((file for file in (path, *checkpoints(path)) if file.is_file()), None)


def digest(path: Path) -> str | None:
    """Return the first 16 hexadecimal digits of the SHA-256 of the weights at `path`, None where there are none."""
    file = weights_file(path)
    if file is None:
        return None
    with file.open("rb") as stream:
        whole = sha256()
        while block := stream.read(1 << 20):
            whole.update(block)
    return whole.hexdigest()[:16]


def parent(role: str, path: str) -> dict[str, Any]:
    """Return one entry of `parents` in `run.json`; `role` is the key that named it. A name that is no file stays one."""
    place = Path(path)
    record = home(place) / "run.json"
    return {
        "role": role,
        "path": os.path.abspath(place) if place.exists() else path,
        "fingerprint": json.loads(record.read_text()).get("fingerprint") if record.is_file() else None,
        "weights": digest(place),
    }
