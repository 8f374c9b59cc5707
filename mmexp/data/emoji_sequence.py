"""The bundled emoji as tasks in sequence, a group each."""

from typing import Literal

import numpy as np

from mmexp.data.chosen import ChosenSamples
from mmexp.data.emoji import emoji
from mmexp.data.sequence import in_sequence
from mmexp.errors import RequestError, nearest
from mmexp.types import DataSource

GROUPS = ("smileys", "people", "animals", "food", "travel", "activities", "objects", "symbols", "flags")


def emoji_sequence(
    groups: list[str] | None = None,
    locale: str = "en",
    styles: list[str] | None = None,
    label: Literal["group", "subgroup"] = "subgroup",
) -> DataSource:
    """Return a task for each of `groups`, in that order; None: all nine.

    A task learns the group's training pictures and is measured on the same concepts in a style that was held out, as
    `test_cross_style` of `emoji`: what was learned can be forgotten. Among few `styles` some of these concepts have no picture
    to learn from. Labels are those of all groups, trained or not. Raises RequestError for a group that is not there, twice
    there, or has no picture in these styles.
    """
    chosen = groups or list(GROUPS)
    for name in chosen:
        if name not in GROUPS:
            raise RequestError(f"data.groups: '{name}' is not a group.{nearest(name, GROUPS)}")
        if chosen.count(name) > 1:
            raise RequestError(f"data.groups: '{name}' is there twice. Leave one out.")
    source, grouped = emoji(locale, styles, label), emoji(locale, styles, "group")
    number = {name.split()[0]: place for place, name in enumerate(grouped.classes)}
    train, test = (
        {n: ChosenSamples(source.splits[s], np.flatnonzero(grouped.splits[s].labels == number[n])) for n in chosen}
        for s in ("train", "test_cross_style")
    )
    for name in chosen:
        if not (len(train[name]) and len(test[name])):
            raise RequestError(
                f"data.styles: in these no picture of '{name}' is left to learn or to measure. Add another."
            )
    return in_sequence(train, test, source.modalities, source.classes, f"{source.fingerprint}-{'-'.join(chosen)}")
