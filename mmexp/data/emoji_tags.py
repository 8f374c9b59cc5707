"""The tags of emoji as weak labels: people who wrote them had search in mind, and left out much that is as true."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

Text = Mapping[str, Any]
# How sure a tag is that a concept does not have, where its words stand in the concept's label or other tags ("eyes" in
# "grinning face with smiling eyes"): it may well be true, so it is as good as unknown.
NAMED = 0.5


def common_tags(texts: Iterable[Text], least: int) -> list[str]:
    """Return the tags that at least `least` of these concepts have, in the order of the alphabet."""
    count = Counter(tag for text in texts for tag in set(text["tags"]))
    return sorted(tag for tag, concepts in count.items() if concepts >= least)


def tag_targets(text: Text, tags: list[str]) -> np.ndarray:
    """Return for each of `tags` (C,) how sure it is, float32: 1 for the concept's own, `NAMED` for a named one, else 0."""
    own = set(text["tags"])
    words = {word for phrase in (text["label"], *own) for word in phrase.lower().split()}
    sure = [1.0 if tag in own else NAMED if set(tag.lower().split()) <= words else 0.0 for tag in tags]
    return np.array(sure, dtype=np.float32)
