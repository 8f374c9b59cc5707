"""Those of the bundled emoji that move, with their clips."""

from dataclasses import replace
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq

from mmexp.data.chosen import ChosenSamples
from mmexp.data.emoji import ASSETS, EmojiSamples, emoji
from mmexp.data.items import bytes_item
from mmexp.data.videos import read_video
from mmexp.types import DataSource

FRAMES = 8  # of every bundled clip


class MovingSamples(ChosenSamples):
    """The `rows` of emoji whose code is among the `clips`."""

    def __init__(self, samples: EmojiSamples, rows: list[int], clips: dict[str, bytes]):
        super().__init__(samples, rows)
        self.codes, self.clips = [samples.codes[row] for row in rows], clips
        self.items["video"] = np.array([bytes_item(clips[code]) for code in self.codes], dtype=np.int64)

    def read(self, row: int, modality: str, rng: np.random.Generator | None = None) -> Any:
        """Return the clip's frames (T, H, W, 3) uint8, or what the row has beside it."""
        if modality != "video":
            return super().read(row, modality, rng)
        return read_video(self.clips[self.codes[row]], FRAMES)


def emoji_moving(
    locale: str = "en", styles: list[str] | None = None, label: Literal["group", "subgroup", "tags"] = "group"
) -> DataSource:
    """Return the splits of `emoji`, of the concepts that move alone, each still picture beside its concept's clip.

    In `test_cross_style` the drawing is unseen, the clip is not. The clips move what style fluent_3d draws. Raises
    RequestError for a locale or style that is not there.
    """
    source, file = emoji(locale, styles, label), ASSETS / "clips.parquet"
    clips = {row["hexcode"]: row["webp"] for row in pq.ParquetFile(file).read().to_pylist()}
    splits: dict[str, Any] = {}
    for name, samples in source.splits.items():
        assert isinstance(samples, EmojiSamples)
        splits[name] = MovingSamples(samples, [row for row, code in enumerate(samples.codes) if code in clips], clips)
    content = sha256(f"{source.fingerprint} ".encode() + file.read_bytes()).hexdigest()[:16]
    filled = {name: samples for name, samples in splits.items() if len(samples)}
    return replace(source, splits=filled, modalities=("image", "text", "video"), fingerprint=content)
