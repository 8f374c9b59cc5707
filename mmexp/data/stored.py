"""Where a cell's picture or sound is kept, and what is wrong with it, in words."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = {"image": "picture", "audio": "sound"}


@dataclass(frozen=True)
class Slice:
    """A part of a file: a member of a tar archive."""

    file: Path
    offset: int
    size: int

    def read_bytes(self) -> bytes:
        """Return its bytes."""
        with self.file.open("rb") as archive:
            archive.seek(self.offset)
            return archive.read(self.size)


Stored = Path | bytes | Slice


def is_empty(value: Any) -> bool:
    """Say whether a cell holds nothing: null, no text but spaces, an empty list, or Hugging Face's cell without content."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    return value is None or (isinstance(value, str) and not value.strip()) or value in ([], b"")


def stored_in(value: Any, base: Path, modality: str) -> Stored:
    """Return where a cell's picture or sound is: a path relative to `base`, bytes, or both as Hugging Face keeps them."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes | Slice):
        return value
    if value is None or value == "":
        raise OSError(f"no {NAMES[modality]}")
    if str(value).startswith(("http://", "https://")):
        raise OSError(f"'{value}' is an address; nothing is downloaded while training. Download it first")
    return base / Path(str(value)).expanduser()


def complaint(error: OSError, modality: str) -> str:
    """Return what is wrong with a picture or sound, in words."""
    if isinstance(error, FileNotFoundError):
        return f"there is no {NAMES[modality]} '{error.filename}'."
    if error.filename:
        return f"the {NAMES[modality]} '{error.filename}' cannot be read: {error.strerror}."
    text = str(error).partition(" <_io")[0].rstrip(".")
    return f"the {NAMES[modality]} cannot be decoded: {text}."
