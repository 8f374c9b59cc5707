"""Pictures, sounds and videos of a split as an encoder wants them: decoded once, varied, blank where a row has none."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmexp.data.variation import Variation
from mmexp.types import Place, Prepared, Samples

SHARED_MEMORY = "/dev/shm"
# By kind of modality the kinds of augmentations that change it: pictures' the frames of videos too.
CHANGED_BY = {"image": {"image"}, "text": {"text"}, "audio": {"audio", "spectrogram"}, "video": {"image"}}


def _blank(encoder: Any) -> dict[str, Tensor]:
    """Return silence, a picture of the mean colour or a clip of such as an encoder wants it: first what augmentations change."""
    if encoder.modality == "audio":
        return {"samples": torch.zeros(encoder.length)}
    # The mean of its normalisation, which is what borders are filled with too.
    inner = getattr(encoder, "image", encoder)
    colour = torch.tensor(getattr(inner, "mean", (0.5, 0.5, 0.5))).mul(255).round().to(torch.uint8)
    pixels = colour.view(3, 1, 1).expand(3, encoder.image_size, encoder.image_size).clone()
    if encoder.modality == "image":
        return {"pixels": pixels}
    return {"frames": pixels.expand(encoder.frames, -1, -1, -1), "mask": torch.ones(encoder.frames, dtype=torch.bool)}


def _distinct(samples: Samples, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each distinct item (K,), and which of these each row (N,) has.

    Rows are alike where the samples say that they hold the same item of the modality; without `items` each has its own.
    """
    numbers = (getattr(samples, "items", None) or {}).get(name)
    if numbers is None:
        return np.arange(len(samples)), np.arange(len(samples))
    # What a row lacks is never read.
    _, first, slot = np.unique(numbers, return_index=True, return_inverse=True)
    order = first.argsort()
    return first[order], order.argsort()[slot.reshape(-1)]


def shared_memory_free() -> int:
    """Return the bytes that processes can still share; where nothing tells, as many as there may be."""
    try:
        about = os.statvfs(SHARED_MEMORY)
    except (OSError, AttributeError):
        return sys.maxsize
    return about.f_bavail * about.f_frsize


class InMemory:
    """Decoded items in memory, which is shared where there are workers to share it."""

    def __init__(self, blank: dict[str, Tensor], rows: int, shared: bool):
        self.values = {key: one.new_empty(rows, *one.shape) for key, one in blank.items()}
        self.there = torch.zeros(rows, dtype=torch.bool)
        for one in (*self.values.values(), self.there) if shared else ():
            one.share_memory_()

    def missing(self, rows: list[int]) -> list[int]:
        """Return which of `rows` were not decoded yet."""
        return [row for row in rows if not self.there[row]]

    def put(self, rows: list[int], values: Prepared) -> None:
        """Keep `rows`."""
        for key, own in values.items():
            self.values[key][rows] = own
        self.there[rows] = True

    def take(self, rows: list[int]) -> Prepared:
        """Return `rows` (B, ...)."""
        return {key: values[rows] for key, values in self.values.items()}


class Decoded:
    """One modality of a split as its encoder wants it, decoded once where what holds it has room."""

    kinds = ("image", "audio", "video")

    def __init__(self, samples: Samples, name: str, encoder: Any, cache_bytes: int, workers: int = 0):
        self.samples, self.name, self.encoder = samples, name, encoder
        self.blank = _blank(encoder)
        self.key = next(iter(self.blank))
        self.first, self.slot = _distinct(samples, name)
        bytes_each = sum(one.numel() * one.element_size() for one in self.blank.values())
        # What holds decoded items by their slot, None: nothing does. Another one may be put in its place.
        self.held: Any = self._in_memory(self.items * bytes_each, cache_bytes, workers)

    def _in_memory(self, needed: int, most: int, workers: int) -> InMemory | None:
        """Return what holds the items in memory, None where they do not fit; `needed` and `most` are bytes.

        Where /dev/shm is too small, as Docker's is by default, each of the workers holds its own, which is told.
        """
        if needed > most:
            return None
        free = shared_memory_free() if workers else needed
        if free >= needed:
            return InMemory(self.blank, self.items, bool(workers))
        fits = needed * workers <= most
        way = "each worker keeps its own" if fits else "they are decoded in every epoch"
        print(
            f"data: decoded {self.name} takes {needed / 1e6:.0f} MB and {SHARED_MEMORY} has {free / 1e6:.0f} MB free: {way} "
            "(docker run --shm-size, or data.num_workers=0)"
        )
        return InMemory(self.blank, self.items, False) if fits else None

    @property
    def items(self) -> int:
        """Return how many distinct pictures, sounds or videos the rows have."""
        return len(self.first)

    def __call__(self, rows: list[int]) -> Prepared:
        """Return pictures uint8 (B, 3, S, S), sounds float32 (B, T), or frames uint8 (B, T, 3, S, S) with their mask (B, T)."""
        slots = self.slot[rows].tolist()
        own = list(dict.fromkeys(slots))
        if self.held is None:
            place = {slot: number for number, slot in enumerate(own)}
            decoded = self.decode(self.first[own].tolist())
            return {key: one[[place[slot] for slot in slots]] for key, one in decoded.items()}
        if missing := self.held.missing(own):
            self.held.put(missing, self.decode(self.first[missing].tolist()))
        return self.held.take(slots)

    def decode(self, rows: list[int]) -> Prepared:
        """Return the same, read from where the data has them."""
        return self.encoder.prepare([self.samples.read(row, self.name) for row in rows])

    def read(self, places: Sequence[Place], variation: Variation | None) -> Prepared:
        """Return what the encoder takes of `places`, whose rows have this modality: varied, sounds as spectrograms if it does."""
        values = self([row for row, _ in places])
        return self._changed(values, places, variation) if variation else self._finished(values)

    def blanks(self, rows: int) -> Prepared:
        """Return what the encoder takes where rows have none: grey, or silence."""
        finished = self._finished({key: one[None] for key, one in self.blank.items()})
        return {key: one.repeat_interleave(rows, 0) for key, one in finished.items()}

    def _finished(self, values: Prepared) -> Prepared:
        """Return pictures and videos as they are, and sounds as the spectrograms that the encoder makes of them, if it does."""
        return self.encoder.spectrogram(values["samples"]) if hasattr(self.encoder, "spectrogram") else values

    def _changed(self, values: Prepared, places: Sequence[Place], variation: Variation) -> Prepared:
        """Return pictures, videos or sounds as they are varied; all frames of a video alike, for each has the same draws."""
        kind, raw = self.encoder.modality, values[self.key]
        if kind == "video":
            frames = [variation("image", frame, places, self.name) for frame in raw.unbind(1)]
            return {**values, self.key: torch.stack(frames, 1)}
        prepared = self._finished({**values, self.key: variation(kind, raw, places, self.name)})
        if "spectrogram" in prepared:
            prepared["spectrogram"] = variation("spectrogram", prepared["spectrogram"], places, self.name)
        return prepared
