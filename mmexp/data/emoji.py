"""The bundled data: emoji drawn by several artists, with labels and tags in many languages."""

import io
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from mmexp.data.emoji_tags import common_tags, tag_targets
from mmexp.data.few_labels import keep_labels
from mmexp.data.items import bytes_item, text_item
from mmexp.errors import RequestError, nearest
from mmexp.types import DataSource, PositiveInt

ASSETS = Path(__file__).parent / "assets" / "emoji"
# In training, one text in so many is the label alone, as a person would ask.
LABEL_ALONE = 0.25


class EmojiSamples:
    """The pictures of one split; a concept's text is the same for all its pictures.

    `codes` are each row's code points, `styles` names its artist.
    `kinds` holds each code's concept and class; with `tags` these are the classes, and a row may have several.
    """

    def __init__(
        self,
        pictures: list[dict[str, Any]],
        texts: dict[str, dict[str, Any]],
        kinds: dict[str, tuple[int, int]],
        tags: list[str] | None = None,
    ):
        codes = [picture["hexcode"] for picture in pictures]
        self.styles = [picture["style"] for picture in pictures]
        self.concepts = np.array([kinds[code][0] for code in codes], dtype=np.int64)
        self.labels = np.array([kinds[code][1] for code in codes], dtype=np.int64)
        rows = [tag_targets(texts[code], tags) for code in codes] if tags else []
        self.targets = np.stack(rows) if rows else None
        self.codes, self._texts = codes, texts
        self._webp = [picture["webp"] for picture in pictures]
        self.items = {
            "image": np.array([bytes_item(webp) for webp in self._webp], dtype=np.int64),
            "text": np.array([text_item(self.read(row, "text")) for row in range(len(codes))], dtype=np.int64),
        }

    def __len__(self) -> int:
        return len(self._webp)

    def read(self, row: int, modality: str, rng: np.random.Generator | None = None) -> Any:
        """Return the picture, or the text: `label: tag, tag`, with `rng` some of the tags in any order, or none."""
        if modality == "image":
            return Image.open(io.BytesIO(self._webp[row])).convert("RGB")
        text = self._texts[self.codes[row]]
        tags = text["tags"] if rng is None else _some(text["tags"], rng)
        return f"{text['label']}: {', '.join(tags)}" if tags else text["label"]

    def where(self, row: int) -> str:
        """Return code point and style."""
        return f"the bundled emoji {self.codes[row]} ({self.styles[row]})"


def _some(tags: Sequence[str], rng: np.random.Generator) -> list[str]:
    count = 0 if rng.random() < LABEL_ALONE else int(rng.integers(1, len(tags) + 1)) if len(tags) else 0
    return [tags[i] for i in rng.permutation(len(tags))[:count]]


def emoji(
    locale: str = "en",
    styles: list[str] | None = None,
    label: Literal["group", "subgroup", "tags"] = "group",
    tag_concepts: PositiveInt = 10,
    labels_per_class: PositiveInt | None = None,
) -> DataSource:
    """Return the splits `train`, `val`, `test` (unseen concepts) and `test_cross_style` (seen concepts, unseen pictures).

    Of every training concept with two styles or more, one style is kept for `test_cross_style`. `styles` chooses among
    noto, fluent_3d, fluent_flat and blob. With label=tags the classes are the tags that at least `tag_concepts` training
    concepts have, and `targets` say how sure each is (see `emoji_tags`). Of `train`, `labels_per_class` rows of each class
    keep their label. Raises RequestError for a locale or style that is not there.
    """
    concepts = _rows(ASSETS / "concepts.parquet")
    texts = {text["hexcode"]: text for text in _rows(_text_file(locale))}
    pictures = [p for p in _pictures() if p["hexcode"] in texts]
    chosen = _chosen(styles, list(dict.fromkeys(p["style"] for p in pictures)))
    parts = {
        split: [p for p in pictures if p["split"] == split and p["style"] in chosen]
        for split in ("train", "val", "test", "test_cross_style")
    }
    tags = None
    if label == "tags":
        tags = common_tags([texts[code] for code in {p["hexcode"] for p in parts["train"]}], tag_concepts)
    classes = tags or list(dict.fromkeys(concept[label] for concept in concepts))
    number = {name: i for i, name in enumerate(classes)}
    kinds = {c["hexcode"]: (i, -1 if tags else number[c[label]]) for i, c in enumerate(concepts)}
    splits = {split: EmojiSamples(part, texts, kinds, tags) for split, part in parts.items()}
    splits["train"].labels = keep_labels(splits["train"].labels, labels_per_class)
    filled = {name: samples for name, samples in splits.items() if len(samples)}
    return DataSource(
        filled, ("image", "text"), classes, _fingerprint(locale, sorted(chosen), label, tag_concepts, labels_per_class)
    )


@cache
def _rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a bundled table, read once for all runs of a sweep."""
    return pq.ParquetFile(file).read().to_pylist()


@cache
def _pictures() -> list[dict[str, Any]]:
    """Return the bundled pictures without those of evaluation splits that are among what a run learns or is chosen by.

    Some artists drew several concepts alike, such as the flags of Norway and of Svalbard. What equals a picture of `train`
    is left out of the other splits, and of the test sets what equals one of `val`. Equal pixels have equal bytes here.
    """
    every = _rows(ASSETS / "pictures.parquet")
    train, val = ({p["webp"] for p in every if p["split"] == name} for name in ("train", "val"))
    before: dict[str, set[bytes]] = {"train": set(), "val": train}
    return [p for p in every if p["webp"] not in before.get(p["split"], train | val)]


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


def _fingerprint(locale: str, *choices: Any) -> str:
    digest = sha256(repr((locale, len(_pictures()), *choices)).encode())
    for file in (ASSETS / "concepts.parquet", ASSETS / "pictures.parquet", _text_file(locale)):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
