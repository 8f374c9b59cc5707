"""Checkpoint files that are whole or not there: written beside their place, brought to the disk, read back, renamed."""

import os
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from mmexp.runs.whole import damage


class _Stream:
    """A file for torch.save, which says of a full disk something else than the disk did."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self.file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's, whose files outlive the machine's end too. Raises OSError with the file's name where one cannot be written."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint. What stood in its place stays there until the new one is whole."""
        path = Path(path)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(checkpoint, beside)
            if wrong := damage(beside):
                raise OSError(None, f"what was written could not be read back ({wrong})", str(path))
            os.replace(beside, path)
            sync(path.parent)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        finally:
            beside.unlink(missing_ok=True)


def write(checkpoint: dict[str, Any], path: Path) -> None:
    """Write to a file, and on to the disk. Raises OSError."""
    with path.open("wb") as file:
        stream = _Stream(file)
        try:
            torch.save(checkpoint, stream)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        except Exception:
            if stream.error:
                raise stream.error from None
            raise


def sync(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
