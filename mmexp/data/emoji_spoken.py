"""The bundled emoji with their labels spoken. The speech is synthetic: no person was recorded."""

from dataclasses import replace
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq

from mmexp.data.chosen import ChosenSamples
from mmexp.data.emoji import ASSETS, EmojiSamples, emoji
from mmexp.data.items import bytes_item
from mmexp.data.sounds import read_sound
from mmexp.types import DataSource

HELD_OUT = "caribbean"
# Longer than any label; the encoder hears what it is made for.
SECONDS = 30.0

Speech = dict[tuple[str, str], bytes]


class SpokenSamples:
    """The rows of `samples`, each with its code spoken by its one of `voices`."""

    def __init__(self, samples: EmojiSamples | ChosenSamples, codes: list[str], voices: list[str], speech: Speech):
        self.samples, self.codes, self.voices, self.speech = samples, codes, voices, speech
        self.concepts, self.labels, self.targets = samples.concepts, samples.labels, samples.targets
        said = zip(codes, voices, strict=True)
        self.items = {**samples.items, "audio": np.array([bytes_item(speech[one]) for one in said], dtype=np.int64)}

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, row: int, modality: str, rng: np.random.Generator | None = None) -> Any:
        """Return the sound, samples (T,) and their rate, or what the row has beside it."""
        if modality != "audio":
            return self.samples.read(row, modality, rng)
        return read_sound(self.speech[self.codes[row], self.voices[row]], SECONDS)

    def where(self, row: int) -> str:
        """Return code point, style and voice."""
        return f"{self.samples.where(row)}, spoken by {self.voices[row]}"


def emoji_spoken(
    locale: str = "en", styles: list[str] | None = None, label: Literal["group", "subgroup", "tags"] = "group"
) -> DataSource:
    """Return the splits of `emoji` with sounds, and `test_cross_voice`: seen concepts and pictures, and an unseen voice.

    A label is spoken in English, whatever the `locale` of the texts, by one of three synthetic voices; which of them depends
    on concept and style. Of each training concept one picture is in `test_cross_voice`, with a voice that speaks nowhere else.
    Raises RequestError for a locale or style that is not there.
    """
    source, file = emoji(locale, styles, label), ASSETS / "speech.parquet"
    speech = {(row["hexcode"], row["voice"]): row["ogg"] for row in pq.ParquetFile(file).read().to_pylist()}
    voices = [voice for voice in dict.fromkeys(voice for _, voice in speech) if voice != HELD_OUT]
    splits: dict[str, Any] = {}
    for name, samples in source.splits.items():
        assert isinstance(samples, EmojiSamples)
        splits[name] = SpokenSamples(samples, samples.codes, _by_turns(samples, voices), speech)
    train: Any = source.splits["train"]
    rows = np.unique(train.concepts, return_index=True)[1]
    codes = [train.codes[row] for row in rows]
    splits["test_cross_voice"] = SpokenSamples(ChosenSamples(train, rows), codes, [HELD_OUT] * len(rows), speech)
    content = sha256(f"{source.fingerprint} ".encode() + file.read_bytes()).hexdigest()[:16]
    return replace(source, splits=splits, modalities=("image", "text", "audio"), fingerprint=content)


def _by_turns(samples: EmojiSamples, voices: list[str]) -> list[str]:
    """Return each row's voice: three pictures of a concept have two or more, and no style has one of its own."""
    styles = sorted(set(samples.styles))
    return [
        voices[(int(concept) + styles.index(style)) % len(voices)]
        for concept, style in zip(samples.concepts, samples.styles, strict=True)
    ]
