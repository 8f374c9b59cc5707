"""Some rows of other samples."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmexp.types import Samples


class ChosenSamples:
    """Some rows of any `samples`."""

    def __init__(self, samples: Samples, rows: Sequence[int] | np.ndarray):
        self.samples, self.rows = samples, np.asarray(rows)
        self.concepts, self.labels = samples.concepts[self.rows], samples.labels[self.rows]
        known = {name: getattr(samples, name, None) for name in ("targets", "number")}
        chosen = {name: None if values is None else values[self.rows] for name, values in known.items()}
        self.targets, self.number = chosen["targets"], chosen["number"]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, row: int, modality: str, rng: np.random.Generator | None = None) -> Any:
        """Return the raw value of a chosen row."""
        return self.samples.read(int(self.rows[row]), modality, rng)

    def where(self, row: int) -> str:
        """Return file and row of a chosen row."""
        return self.samples.where(int(self.rows[row]))

    def stamp(self) -> str:
        """Return the digest of the files that all rows name, where they name any."""
        return getattr(self.samples, "stamp", str)()
