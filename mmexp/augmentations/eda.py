"""Easy data augmentation of English texts: synonyms, insertions, swaps and deletions (EDA, arXiv:1901.11196)."""

import numpy as np

from mmexp.augmentations.words import WORD, synonym, synonyms
from mmexp.draws import generators
from mmexp.types import Draws, Fraction

Words = list[str]


class Eda:
    """Change a `share` of the texts by one of the four operations, drawn among those whose rate is above 0.

    A rate says how many of the words (what stands between blanks) are changed: at least one by `replace`, `insert` and `swap`,
    while `delete` is the probability of each. A text never loses its last word.
    """

    modality = "text"

    def __init__(
        self,
        share: Fraction = 0.8,
        replace: Fraction = 0.1,
        insert: Fraction = 0.1,
        swap: Fraction = 0.1,
        delete: Fraction = 0.1,
    ):
        rated = [(replaced, replace), (inserted, insert), (swapped, swap), (deleted, delete)]
        self.share, self.operations = share, [one for one in rated if one[1]]

    def __call__(self, texts: list[str], draws: Draws) -> list[str]:
        """Return the texts (B), changed."""
        return [self._changed(text, rng) for text, rng in zip(texts, generators(draws, "eda"), strict=True)]

    def _changed(self, text: str, rng: np.random.Generator) -> str:
        words = text.split()
        if not words or not self.operations or rng.random() >= self.share:
            return text
        operation, rate = self.operations[rng.integers(len(self.operations))]
        return " ".join(operation(words, rate, rng))


def _count(words: Words, rate: float) -> int:
    return max(1, int(rate * len(words)))


def _known(words: Words, rng: np.random.Generator) -> list[int]:
    """Return in random order the places of the words that have synonyms."""
    places = [i for i, word in enumerate(words) if (found := WORD.search(word)) and found[0].lower() in synonyms()]
    return [places[i] for i in rng.permutation(len(places))]


def replaced(words: Words, rate: float, rng: np.random.Generator) -> Words:
    """Return the words with some in their synonyms; signs beside a word stay."""
    changed = list(words)
    for place in _known(words, rng)[: _count(words, rate)]:
        changed[place] = WORD.sub(lambda found: synonym(found[0], rng), words[place], count=1)
    return changed


def inserted(words: Words, rate: float, rng: np.random.Generator) -> Words:
    """Return the words with synonyms of some of them anywhere between."""
    changed = list(words)
    for place in _known(words, rng)[: _count(words, rate)]:
        found = WORD.search(words[place])
        assert found
        changed.insert(rng.integers(len(changed) + 1), synonym(found[0].lower(), rng))
    return changed


def swapped(words: Words, rate: float, rng: np.random.Generator) -> Words:
    """Return the words with pairs of them in each other's place."""
    changed = list(words)
    for _ in range(_count(words, rate) if len(words) > 1 else 0):
        a, b = rng.choice(len(words), 2, replace=False)
        changed[a], changed[b] = changed[b], changed[a]
    return changed


def deleted(words: Words, rate: float, rng: np.random.Generator) -> Words:
    """Return the words without those that are lost, or one of them where all would be."""
    kept = [word for word, draw in zip(words, rng.random(len(words)), strict=True) if draw >= rate]
    return kept or [words[rng.integers(len(words))]]
