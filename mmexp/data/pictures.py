"""A picture, however it is stored, as RGB."""

import io

import numpy as np
from PIL import Image, ImageOps

from mmexp.data.stored import Stored

# Grey of more than 8 bits: PIL's own conversion would clip it to black or white.
_DEEP = ("I", "F")
# What white may be in numbers that do not say so: of 8 bits, of 16 bits, of 32 bits with a sign.
_WHITES = (255, 65_535, 2**31 - 1)
# What PIL's decoders raise on broken files, beside OSError.
BROKEN = (SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def read_picture(stored: Stored) -> Image.Image:
    """Decode a picture to RGB: turned as its EXIF says, on white where it is transparent, deep grey scaled to 8 bits.

    Raises OSError (with no traceback of use to a person) where it is missing or cannot be decoded.
    """
    content = stored if isinstance(stored, bytes) else stored.read_bytes()
    try:
        with Image.open(io.BytesIO(content)) as opened:
            ImageOps.exif_transpose(opened, in_place=True)
            return rgb(opened)
    except BROKEN as error:
        raise OSError(str(error)) from error


def rgb(picture: Image.Image) -> Image.Image:
    """Return an opened picture in RGB, on white where it is transparent, deep grey scaled to 8 bits.

    16-bit grey is scaled by its range. Floats are from 0 to 1; those that are not, and integers of 32 bits, are from 0 to the
    first of 255, 65,535 and 2^31 - 1 that none exceeds. Raises ValueError for negative numbers and those that are none.
    """
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
        return _grey(np.asarray(picture), 65_535)
    if picture.mode in _DEEP:
        return _grey(pixels := np.asarray(picture), _white(pixels))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def _grey(pixels: np.ndarray, white: float) -> Image.Image:
    return Image.fromarray((pixels.astype(np.float64) * (255 / white)).round().astype(np.uint8)).convert("RGB")


def _white(pixels: np.ndarray) -> float:
    """Return the number that is white in a picture of floats or 32-bit integers (H, W)."""
    low, high = float(pixels.min()), float(pixels.max())
    if not low >= 0 or not high <= _WHITES[-1]:
        raise ValueError(f"its numbers are from {low:.6g} to {high:.6g}; scale them to 0..1 or 0..255")
    whites = (1, *_WHITES) if pixels.dtype.kind == "f" else _WHITES
    return next(white for white in whites if high <= white)
