"""English words replaced by others of the same meaning (WordNet, doi:10.1145/219717.219748)."""

import numpy as np

from mmexp.augmentations.words import WORD, synonym
from mmexp.draws import generators
from mmexp.types import Draws, Fraction


class Synonyms:
    """Replace each word that has synonyms with the probability `share`; all else of the text stays as it is."""

    modality = "text"

    def __init__(self, share: Fraction = 0.2):
        self.share = share

    def __call__(self, texts: list[str], draws: Draws) -> list[str]:
        """Return the texts (B), changed."""
        return [self._changed(text, rng) for text, rng in zip(texts, generators(draws, "synonyms"), strict=True)]

    def _changed(self, text: str, rng: np.random.Generator) -> str:
        return WORD.sub(lambda found: synonym(found[0], rng) if rng.random() < self.share else found[0], text)
