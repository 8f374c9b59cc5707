"""A picture, however it is stored, as RGB."""

import io

import numpy as np
from PIL import Image, ImageOps

from mmexp.data.stored import Stored

# 16-bit grey: PIL's own conversion would clip it to white.
_DEEP = ("I", "I;16", "I;16B", "I;16L")
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
    """Return an opened picture in RGB, on white where it is transparent."""
    if picture.mode in _DEEP:
        return Image.fromarray((np.asarray(picture).clip(0, 65535) / 257).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")
