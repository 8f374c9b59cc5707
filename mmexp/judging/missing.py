"""What a model still knows when modalities are missing: every subset of them at test time."""

from itertools import combinations
from typing import Any

import numpy as np

from mmexp.judging.said import Judged, gather, headline
from mmexp.types import Samples


class Only:
    """The rows of a set with some modalities alone."""

    def __init__(self, samples: Any, kept: tuple[str, ...], names: list[str]):
        self.samples = samples
        here = getattr(samples, "present", None) or {}
        gone = {name: np.zeros(len(samples), dtype=bool) for name in names if name not in kept}
        self.present = {**here, **gone}

    def __getattr__(self, name: str) -> Any:
        if name in ("stamp", "read_as") or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.samples, name)

    def __len__(self) -> int:
        return len(self.samples)


def subsets(judged: Judged, samples: Samples) -> dict[str, float]:
    """Return `<a>+<b>/<measure>` for every subset of the modalities, the whole one first."""
    names = list(judged.model.encoders)
    told: dict[str, float] = {}
    for count in range(len(names), 0, -1):
        for kept in combinations(names, count):
            only: Any = Only(samples, kept, names) if count < len(names) else samples
            if found := headline(gather(judged, only).metrics()):
                told[f"{'+'.join(kept)}/{found[0]}"] = found[1]
    return told
