"""Texts that are a label and its tags: other tags, in another order, in every epoch."""

import numpy as np

from mmexp.draws import generators
from mmexp.types import Draws, Fraction


class Tags:
    """Of texts `label: tag, tag` drop each tag with the probability `drop`, shuffle the rest, and leave some `alone`.

    `alone` is the share of texts that keep their label only. A text of another form stays as it is. The bundled emoji vary
    their tags themselves.
    """

    modality = "text"

    def __init__(self, drop: Fraction = 0.3, shuffle: bool = True, alone: Fraction = 0.2):
        self.drop, self.shuffle, self.alone = drop, shuffle, alone

    def __call__(self, texts: list[str], draws: Draws) -> list[str]:
        """Return the texts (B), changed."""
        return [self._changed(text, rng) for text, rng in zip(texts, generators(draws, "tags"), strict=True)]

    def _changed(self, text: str, rng: np.random.Generator) -> str:
        # The last colon: labels have some too, as in `flag: Wales: Cardiff, dragon`.
        label, _, listed = text.rpartition(": ")
        tags = listed.split(", ")
        if not label:
            return text
        kept = [] if rng.random() < self.alone else [tag for tag in tags if rng.random() >= self.drop]
        order = rng.permutation(len(kept)) if self.shuffle else range(len(kept))
        return f"{label}: {', '.join(kept[i] for i in order)}" if kept else label
