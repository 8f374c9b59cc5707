"""What a cell of a table becomes when it is read: a picture, a sound, a video."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmexp.data.pictures import read_picture
from mmexp.data.sounds import read_sound
from mmexp.data.stored import is_inside, stored_in
from mmexp.data.videos import read_video


@dataclass(frozen=True)
class Decoding:
    """How much is read: of a sound the first `seconds`, of a video `frames` frames; and whether files may lie `anywhere`."""

    seconds: float = 30.0
    frames: int = 8
    anywhere: bool = False

    def __call__(self, value: Any, base: Path, kind: str) -> Any:
        """Return the raw value of a cell with paths relative to `base`. Raises OSError where it cannot be decoded."""
        readers: Mapping[str, Callable[..., Any]] = {"image": read_picture, "audio": read_sound, "video": read_video}
        stored = stored_in(value, base, kind)
        if isinstance(stored, Path) and not (self.anywhere or is_inside(stored, base)):
            raise OSError(f"'{stored}' lies outside of the table's folder. data.files=anywhere allows that")
        return readers[kind](stored, *self.limits(kind))

    def limits(self, kind: str) -> tuple[float, ...]:
        """Return how much is read of one kind."""
        return {"audio": (self.seconds,), "video": (self.frames,)}.get(kind, ())
