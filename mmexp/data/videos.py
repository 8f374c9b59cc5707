"""A video, however it is stored, as some of its frames."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmexp.data.pictures import BROKEN, read_picture, rgb
from mmexp.data.stored import Slice, Stored
from mmexp.errors import RequestError
from mmexp.spacing import middles

FILMS = (".mp4", ".webm", ".mkv", ".mov", ".avi")
# By its first bytes one of PIL's formats of moving pictures is told: GIF, PNG, WebP. AVI begins with RIFF, too.
_PICTURE = re.compile(rb"GIF8|\x89PNG|RIFF.{4}WEBP", re.DOTALL)
_TOLD_BY = 12  # bytes


def read_video(stored: Stored, frames: int) -> np.ndarray:
    """Return `frames` frames (T, H, W, 3) uint8, evenly spaced; all where there are fewer.

    GIF, WebP and PNG that move, a folder of pictures in the order of their names, and films where PyAV is installed.
    Raises OSError where it is missing, cannot be decoded, or its frames have different sizes; RequestError without PyAV.
    """
    if isinstance(stored, Path) and stored.is_dir():
        files = sorted(file for file in stored.iterdir() if not file.name.startswith("."))
        pictures = [read_picture(files[place]) for place in middles(len(files), frames)]
    else:
        whole = stored.read_bytes() if isinstance(stored, Slice) else stored
        pictures = _moving(whole, frames) if _PICTURE.match(_first(whole)) else _film(whole, frames)
    if not pictures:
        raise OSError("it has no frames")
    if len({picture.size for picture in pictures}) > 1:
        raise OSError("its frames have different sizes")
    return np.stack([np.asarray(picture) for picture in pictures])


def _first(stored: Path | bytes) -> bytes:
    if isinstance(stored, bytes):
        return stored[:_TOLD_BY]
    with stored.open("rb") as file:
        return file.read(_TOLD_BY)


def _moving(stored: Path | bytes, frames: int) -> list[Image.Image]:
    try:
        with Image.open(io.BytesIO(stored) if isinstance(stored, bytes) else stored) as opened:
            return [rgb(frame) for frame in _sought(opened, middles(getattr(opened, "n_frames", 1), frames))]
    except BROKEN as error:
        raise OSError(str(error)) from error


def _sought(opened: Image.Image, places: list[int]) -> Iterator[Image.Image]:
    for place in places:
        opened.seek(place)
        yield opened


def _film(stored: Path | bytes, frames: int) -> list[Image.Image]:
    """Decode once, and a second time where there are not as many frames as the film says of itself."""
    try:
        import av
    except ImportError as error:
        # No fault of the row, that another try would find again.
        raise RequestError("films need PyAV, which is not installed: pip install 'mmexp[video]'.") from error

    def opened() -> Any:
        return av.open(str(stored) if isinstance(stored, Path) else io.BytesIO(stored), "r")

    def decoded(count: int) -> tuple[list[Image.Image], int]:
        wanted, found, seen = set(middles(count, frames)), [], 0
        with opened() as film:
            for seen, frame in enumerate(film.decode(video=0), 1):
                if seen - 1 in wanted:
                    found.append(frame.to_image())
        return found, seen

    try:
        with opened() as film:
            said = _said(film)
        found, count = decoded(said)
        return found if count == said else decoded(count)[0]
    except (av.FFmpegError, IndexError) as error:
        raise OSError(getattr(error, "strerror", None) or "it holds no film") from error


def _said(film: Any) -> int:
    """Return how many frames an opened film says to have: in its header, else by its packets."""
    stream = film.streams.video[0]
    return stream.frames or sum(1 for packet in film.demux(stream) if packet.size)
