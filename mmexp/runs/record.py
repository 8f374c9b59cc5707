"""The run directory: `run.json`, `config.yaml`, `metrics.json`."""

import json
import os
import platform
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = ("mmexp", "torch", "lightning", "hydra-core", "transformers", "peft", "open_clip_torch", "timm")


def write_atomically(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the file as it was before or whole, after the machine's end too."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


class RunRecord:
    """`run.json` of one run, from `running` to how it ended."""

    def __init__(self, directory: Path, facts: dict[str, Any]):
        self.directory = directory
        self.began, self._clock = time.time(), time.monotonic()
        self.facts: dict[str, Any] = {
            "status": "running",
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "began": round(self.began, 2),
            **facts,
            "versions": versions(),
            "git": git_state(),
            "error": None,
        }

    def start(self, config: str, classes: Sequence[str] | None = None) -> None:
        """Make the directory, with the resolved `config`, the names of the head's `classes`, and the record of a running run."""
        self.directory.mkdir(parents=True, exist_ok=True)
        write_atomically(self.directory / "config.yaml", config)
        if classes:
            write_atomically(self.directory / "classes.json", json.dumps(list(classes)) + "\n")
        self.save()

    def update(self, **facts: Any) -> None:
        """Add facts and save."""
        self.facts |= facts
        self.save()

    def finish(self, status: str, error: str | None = None) -> None:
        """Save how the run ended, how long it took and the most memory the process held."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        # The wall's clock may be set meanwhile.
        seconds = round(time.monotonic() - self._clock, 2)
        self.update(status=status, error=error, wall_seconds=seconds, peak_memory_bytes=peak)

    def save(self) -> None:
        """Write `run.json`."""
        write_run(self.directory, self.facts)


def write_run(directory: Path, facts: Mapping[str, Any]) -> None:
    """Write `run.json`."""
    write_atomically(directory / "run.json", json.dumps(facts, indent=2, default=str) + "\n")


def write_metrics(directory: Path, metrics: dict[str, float]) -> None:
    """Write `metrics.json`, flat and sorted."""
    write_atomically(directory / "metrics.json", json.dumps(metrics, indent=2, sort_keys=True) + "\n")


def versions() -> dict[str, str]:
    """Return the versions of Python and of what a result may depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def git_state() -> dict[str, Any] | None:
    """Return commit and cleanliness of the checkout in which the run was started, None outside of one."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5)
        status = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if commit.returncode:
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}


def hardware_facts() -> dict[str, Any]:
    """Return what the run computes on."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"machine": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpus": gpus}
