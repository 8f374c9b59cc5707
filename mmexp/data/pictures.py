"""A picture, however it is stored, as RGB."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

# 16-bit grey: PIL's own conversion would clip it to white.
_DEEP = ("I", "I;16", "I;16B", "I;16L")


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


def stored_in(value: Any, base: Path) -> Stored:
    """Return where a cell's picture is: a path relative to `base`, bytes, or both as Hugging Face keeps them."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes | Slice):
        return value
    if value is None or value == "":
        raise OSError("no picture")
    if str(value).startswith(("http://", "https://")):
        raise OSError(f"'{value}' is an address; nothing is downloaded while training. Download it first")
    return base / Path(str(value)).expanduser()


def read_picture(stored: Stored) -> Image.Image:
    """Decode a picture to RGB: turned as its EXIF says, on white where it is transparent, deep grey scaled to 8 bits.

    Raises OSError (with no traceback of use to a person) where it is missing or cannot be decoded.
    """
    content = stored if isinstance(stored, bytes) else stored.read_bytes()
    try:
        with Image.open(io.BytesIO(content)) as opened:
            return _rgb(ImageOps.exif_transpose(opened))
    # PIL's decoders raise all of these on broken files.
    except (SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise OSError(str(error)) from error


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in _DEEP:
        return Image.fromarray((np.asarray(picture).clip(0, 65535) / 257).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def complaint(error: OSError) -> str:
    """Return what is wrong with a picture, in words."""
    if isinstance(error, FileNotFoundError):
        return f"there is no picture '{error.filename}'."
    if error.filename:
        return f"the picture '{error.filename}' cannot be read: {error.strerror}."
    text = str(error).partition(" <_io")[0].rstrip(".")
    return f"the picture cannot be decoded: {text}."
