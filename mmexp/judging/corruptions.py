"""How much a model loses when pictures, texts and sounds are spoilt, in five strengths (arXiv:1903.12261; arXiv:2212.08044)."""

import io
import string
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from mmexp.data.chosen import ChosenSamples
from mmexp.judging.said import Judged, gather, headline
from mmexp.types import Samples

Draws = np.random.Generator
STRENGTHS = (1, 2, 3, 4, 5)


def noise(picture: Image.Image, strength: int, draws: Draws) -> Image.Image:
    """Gaussian noise of the deviations that ImageNet-C has."""
    deviation = (0.08, 0.12, 0.18, 0.26, 0.38)[strength - 1]
    pixels = np.asarray(picture, np.float32) / 255
    return _picture(pixels + draws.normal(0, deviation, pixels.shape))


def blur(picture: Image.Image, strength: int, draws: Draws) -> Image.Image:
    """Gaussian blur, of radii by the shorter side: 1 to 6 pixels of 224."""
    radius = (1, 2, 3, 4, 6)[strength - 1] * min(picture.size) / 224
    return picture.filter(ImageFilter.GaussianBlur(radius))


def jpeg(picture: Image.Image, strength: int, draws: Draws) -> Image.Image:
    """JPEG of the qualities that ImageNet-C has."""
    stored = io.BytesIO()
    picture.save(stored, "JPEG", quality=(25, 18, 15, 10, 7)[strength - 1])
    return Image.open(stored).convert("RGB")


def occlusion(picture: Image.Image, strength: int, draws: Draws) -> Image.Image:
    """A grey square on a tenth to a half of the picture."""
    pixels = np.array(picture)
    height, width = pixels.shape[:2]
    share = (0.1, 0.2, 0.3, 0.4, 0.5)[strength - 1] ** 0.5
    tall, wide = int(height * share), int(width * share)
    top, left = draws.integers(height - tall + 1), draws.integers(width - wide + 1)
    pixels[top : top + tall, left : left + wide] = 127
    return Image.fromarray(pixels)


def typos(text: str, strength: int, draws: Draws) -> str:
    """Letters dropped, doubled, exchanged with the next or replaced: of 4 to 20 in a hundred."""
    letters, found, i = list(text), [], 0
    while i < len(letters):
        one = letters[i]
        kind = draws.integers(4) if one.isalpha() and draws.random() < 0.04 * strength else -1
        if kind == 1:
            found += [one, one]
        elif kind == 2 and i + 1 < len(letters):
            found += [letters[i + 1], one]
            i += 1
        elif kind == 3:
            found.append(string.ascii_lowercase[draws.integers(26)])
        elif kind != 0:
            found.append(one)
        i += 1
    return "".join(found) or text


def reverberation(sound: tuple[np.ndarray, int], strength: int, draws: Draws) -> tuple[np.ndarray, int]:
    """A room that takes 0.2 to 1.5 s to fall by 60 dB: noise that dies away, behind the sound itself."""
    from scipy.signal import fftconvolve

    samples, rate = sound
    seconds = (0.2, 0.4, 0.7, 1.0, 1.5)[strength - 1]
    time: Any = np.arange(int(seconds * rate)) / rate
    tail = draws.normal(size=len(time)) * 10 ** (-3 * time / seconds)
    room = np.concatenate([[1.0], tail * (0.5 / max(float(np.linalg.norm(tail)), 1e-9))])
    wet: Any = fftconvolve(samples, room)[: len(samples)]
    loudest: Any = np.abs(wet).max()
    return (wet / max(1.0, float(loudest))).astype(np.float32), rate


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8))


KINDS: dict[str, dict[str, Callable[..., Any]]] = {
    "image": {"noise": noise, "blur": blur, "jpeg": jpeg, "occlusion": occlusion},
    "text": {"typos": typos},
    "audio": {"reverberation": reverberation},
}


class Spoilt(ChosenSamples):
    """The rows of a set with one modality spoilt, each row in a way of its own that is the same at every reading."""

    def __init__(self, samples: Samples, modality: str, kind: str, spoil: Callable[..., Any], strength: int):
        super().__init__(samples, np.arange(len(samples)))
        self.modality, self.kind, self.spoil, self.strength = modality, kind, spoil, strength

    def read(self, row: int, modality: str, rng: Draws | None = None) -> Any:
        """Return a raw value, spoilt if it is of that modality."""
        value = super().read(row, modality, rng)
        return self._spoilt(value, row) if modality == self.modality else value

    def texts(self, row: int) -> list[str]:
        """Return the texts of a row, each spoilt if texts are."""
        texts = super().texts(row)
        return (
            [self._spoilt(text, row, place) for place, text in enumerate(texts)] if self.modality == "text" else texts
        )

    def _spoilt(self, value: Any, row: int, *place: int) -> Any:
        return self.spoil(value, self.strength, np.random.default_rng([row, self.strength, len(self.kind), *place]))


def robustness(judged: Judged, samples: Samples) -> dict[str, float]:
    """Return `<kind>_<strength>/<measure>` of every corruption of what the model reads, and `clean/<measure>`."""
    told: dict[str, float] = {}
    if clean := headline(gather(judged, samples).metrics()):
        told[f"clean/{clean[0]}"] = clean[1]
    for name, encoder in judged.model.encoders.items():
        for kind, spoil in KINDS.get(encoder.modality, {}).items():
            for strength in STRENGTHS:
                spoilt = Spoilt(samples, name, kind, spoil, strength)
                if found := headline(gather(judged, spoilt).metrics()):
                    told[f"{kind}_{strength}/{found[0]}"] = found[1]
    return told
