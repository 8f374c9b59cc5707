"""English words with the same meaning, from the bundled table (`scripts/build_synonyms.py`)."""

import gzip
import re
from functools import cache
from pathlib import Path

import numpy as np

TABLE = Path(__file__).parents[1] / "data" / "assets" / "synonyms.txt.gz"
WORD = re.compile(r"[A-Za-z]+")


@cache
def synonyms() -> dict[str, list[str]]:
    """Return the synonyms of each word, lower case; a word without any is not there, nor are words of grammar."""
    lines = gzip.decompress(TABLE.read_bytes()).decode().splitlines()
    return {word: others for word, *others in map(str.split, lines)}


def synonym(word: str, rng: np.random.Generator) -> str:
    """Return one of the synonyms of `word`, with a capital where it has one; the word itself where there is none."""
    others = synonyms().get(word.lower(), [word])
    other = others[rng.integers(len(others))]
    return other.capitalize() if word.istitle() else other
