"""The bundled data: emoji drawn by several artists, with labels and tags in many languages."""

import io
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from mmexp.errors import RequestError, nearest
from mmexp.types import DataSource

ASSETS = Path(__file__).parent / "assets" / "emoji"
# In training, one text in so many is the label alone, as a person would ask.
LABEL_ALONE = 0.25


class EmojiSamples:
    """The pictures of one split; a concept's text is the same for all its pictures. `styles` names each row's artist."""

    def __init__(
        self, pictures: list[dict[str, Any]], texts: dict[str, dict[str, Any]], kinds: dict[str, tuple[int, int]]
    ):
        codes = [picture["hexcode"] for picture in pictures]
        self.styles = [picture["style"] for picture in pictures]
        self.concepts = np.array([kinds[code][0] for code in codes], dtype=np.int64)
        self.labels = np.array([kinds[code][1] for code in codes], dtype=np.int64)
        self._codes, self._texts = codes, texts
        self._webp = [picture["webp"] for picture in pictures]

    def __len__(self) -> int:
        return len(self._webp)

    def read(self, row: int, modality: str, rng: np.random.Generator | None = None) -> Any:
        """Return the picture, or the text: `label: tag, tag`, with `rng` some of the tags in any order, or none."""
        if modality == "image":
            return Image.open(io.BytesIO(self._webp[row])).convert("RGB")
        text = self._texts[self._codes[row]]
        tags = text["tags"] if rng is None else _some(text["tags"], rng)
        return f"{text['label']}: {', '.join(tags)}" if tags else text["label"]

    def where(self, row: int) -> str:
        """Return code point and style."""
        return f"the bundled emoji {self._codes[row]} ({self.styles[row]})"


def _some(tags: Sequence[str], rng: np.random.Generator) -> list[str]:
    count = 0 if rng.random() < LABEL_ALONE else int(rng.integers(1, len(tags) + 1)) if len(tags) else 0
    return [tags[i] for i in rng.permutation(len(tags))[:count]]


def emoji(
    locale: str = "en", styles: list[str] | None = None, label: Literal["group", "subgroup"] = "group"
) -> DataSource:
    """Return the splits `train`, `val`, `test` (unseen concepts) and `test_cross_style` (seen concepts, unseen pictures).

    Of every training concept with two styles or more, one style is kept for `test_cross_style`. `styles` chooses among
    noto, fluent_3d, fluent_flat and blob. Raises RequestError for a locale or style that is not there.
    """
    concepts = pq.read_table(ASSETS / "concepts.parquet").to_pylist()
    classes = list(dict.fromkeys(concept[label] for concept in concepts))
    kinds = {c["hexcode"]: (number, classes.index(c[label])) for number, c in enumerate(concepts)}
    texts = {text["hexcode"]: text for text in pq.read_table(_text_file(locale)).to_pylist()}
    pictures = [p for p in pq.read_table(ASSETS / "pictures.parquet").to_pylist() if p["hexcode"] in texts]
    chosen = _chosen(styles, list(dict.fromkeys(p["style"] for p in pictures)))
    splits = {
        split: EmojiSamples([p for p in pictures if p["split"] == split and p["style"] in chosen], texts, kinds)
        for split in ("train", "val", "test", "test_cross_style")
    }
    filled = {name: samples for name, samples in splits.items() if len(samples)}
    return DataSource(filled, ("image", "text"), classes, _fingerprint(locale, sorted(chosen), label))


def _text_file(locale: str) -> Path:
    file = ASSETS / "text" / f"{locale}.parquet"
    if not file.is_file():
        known = sorted(path.stem for path in ASSETS.glob("text/*.parquet"))
        raise RequestError(
            f"data.locale='{locale}' is not among the bundled languages.{nearest(locale, known)} There are: {', '.join(known)}."
        )
    return file


def _chosen(styles: Sequence[str] | None, known: list[str]) -> set[str]:
    for style in styles or ():
        if style not in known:
            raise RequestError(
                f"data.styles: '{style}' is not a bundled style.{nearest(style, known)} There are: {', '.join(known)}."
            )
    return set(styles or known)


def _fingerprint(locale: str, styles: list[str], label: str) -> str:
    digest = sha256(repr((locale, styles, label)).encode())
    for file in (ASSETS / "concepts.parquet", ASSETS / "pictures.parquet", _text_file(locale)):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
