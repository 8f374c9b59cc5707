"""Where a cell's picture, sound or video is kept, and what is wrong with it, in words."""

import os
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import normalize

# No name of a file is longer; in base64 nothing is shorter that holds a picture or a sound.
_LONGEST_NAME = 255
# What PNG, JPEG, GIF, WebP and WAV begin with in base64.
_BEGINNINGS = ("iVBORw0KGgo", "/9j/4", "R0lGOD", "UklGR")
NAMES = {"image": "picture", "audio": "sound", "video": "video"}


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


def stored_in(value: Any, base: Path, kind: str) -> Stored:
    """Return where a cell's picture, sound or video is: a path relative to `base`, bytes, or both as Hugging Face keeps them."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes | Slice):
        return value
    if value is None or value == "":
        raise OSError(f"no {NAMES[kind]}")
    if str(value).startswith(("http://", "https://")):
        raise OSError(f"'{value}' is an address; nothing is downloaded while training. Download it first")
    if "\0" in str(value):
        raise OSError("its name holds a null character")
    encoded = _from_base64(str(value))
    return _file(str(value), base) if encoded is None else encoded


def _from_base64(value: str) -> bytes | None:
    """Return the bytes of a cell that holds a file in base64, also as a `data:` URL; None for a path."""
    content = value.partition(";base64,")[2] if value.startswith("data:") else value
    if value is content and not (len(value) > _LONGEST_NAME or value.startswith(_BEGINNINGS)):
        return None
    try:
        return b64decode("".join(content.split()), validate=True)
    except ValueError:
        return None


def _file(value: str, base: Path) -> Path:
    """Return the path that a cell names; where there is none, with accents composed or decomposed, and slashes for `\\`."""
    path = base / Path(value).expanduser()
    if value.isascii() and "\\" not in value:
        return path
    others = [value, value.replace("\\", "/")]
    forms = [path, *(base / normalize(form, other) for other in others for form in ("NFC", "NFD"))]
    return next((one for one in forms if os.path.lexists(one)), path)


def is_inside(path: Path, folder: Path) -> bool:
    """Say whether a path stays below a folder; links that lie there are the user's own, and followed."""
    below = os.path.join(os.path.abspath(folder), "")
    return os.path.join(os.path.abspath(path), "").startswith(below)


def complaint(error: OSError, kind: str) -> str:
    """Return what is wrong with a picture, sound or video, in words."""
    if isinstance(error, FileNotFoundError):
        return f"there is no {NAMES[kind]} '{error.filename}'."
    if error.filename:
        return f"the {NAMES[kind]} '{error.filename}' cannot be read: {error.strerror}."
    text = str(error).partition(" <_io")[0].rstrip(".")
    return f"the {NAMES[kind]} cannot be decoded: {text}."
