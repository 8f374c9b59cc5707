"""A video, however it is stored, as some of its frames."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mmexp.data.pictures import BROKEN, read_picture, rgb
from mmexp.data.stored import Stored

FILMS = (".mp4", ".webm", ".mkv", ".mov", ".avi")
# By its first bytes one of PIL's formats of moving pictures is told: GIF, PNG, WebP. AVI begins with RIFF, too.
_PICTURE = re.compile(rb"GIF8|\x89PNG|RIFF.{4}WEBP", re.DOTALL)


def read_video(stored: Stored, frames: int) -> np.ndarray:
    """Return `frames` frames (T, H, W, 3) uint8, evenly spaced; all where there are fewer.

    GIF, WebP and PNG that move, a folder of pictures in the order of their names, and films where PyAV is installed.
    Raises OSError where it is missing, cannot be decoded, or its frames have different sizes.
    """
    if isinstance(stored, Path) and stored.is_dir():
        files = sorted(file for file in stored.iterdir() if not file.name.startswith("."))
        pictures = [read_picture(files[place]) for place in middles(len(files), frames)]
    else:
        content = stored if isinstance(stored, bytes) else stored.read_bytes()
        pictures = _moving(content, frames) if _PICTURE.match(content) else _film(content, frames)
    if not pictures:
        raise OSError("it has no frames")
    if len({picture.size for picture in pictures}) > 1:
        raise OSError("its frames have different sizes")
    return np.stack([np.asarray(picture) for picture in pictures])


def middles(count: int, wanted: int) -> list[int]:
    """Return the middle places of `wanted` equal parts of `count`; all places where there are no more."""
    return list(range(count)) if count <= wanted else [(2 * part + 1) * count // (2 * wanted) for part in range(wanted)]


def _moving(content: bytes, frames: int) -> list[Image.Image]:
    try:
        with Image.open(io.BytesIO(content)) as opened:
            return [rgb(frame) for frame in _sought(opened, middles(getattr(opened, "n_frames", 1), frames))]
    except BROKEN as error:
        raise OSError(str(error)) from error


def _sought(opened: Image.Image, places: list[int]) -> Iterator[Image.Image]:
    for place in places:
        opened.seek(place)
        yield opened


def _film(content: bytes, frames: int) -> list[Image.Image]:
    """Decode twice: how many frames there are, many files do not say."""
    try:
        import av
    except ImportError as error:
        raise OSError("films need PyAV, which is not installed (pip install 'mmexp[video]')") from error
    try:
        with av.open(io.BytesIO(content), "r") as film:
            count = len([None for _ in film.decode(video=0)])
        wanted = set(middles(count, frames))
        with av.open(io.BytesIO(content), "r") as film:
            return [frame.to_image() for place, frame in enumerate(film.decode(video=0)) if place in wanted]
    except (av.FFmpegError, IndexError) as error:
        raise OSError(getattr(error, "strerror", None) or "it holds no film") from error
