"""Some rows of other samples."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mmexp.data.items import MISSING, text_item
from mmexp.types import Samples


def chosen_present(samples: Samples, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return which of the chosen rows have those modalities that some of these lack."""
    found = {name: there[rows] for name, there in (getattr(samples, "present", None) or {}).items()}
    return {name: there for name, there in found.items() if not there.all()}


def whole_rows(samples: Samples) -> np.ndarray:
    """Return the rows that have all modalities."""
    whole = np.ones(len(samples), dtype=bool)
    for there in (getattr(samples, "present", None) or {}).values():
        whole &= there
    return whole.nonzero()[0]


def texts_of(samples: Any, row: int) -> list[str]:
    """Return the texts of a row, each alone where the data can tell them apart."""
    return samples.texts(row) if hasattr(samples, "texts") else [str(samples.read(row, "text"))]


def text_items_of(samples: Any, row: int) -> list[int]:
    """Return the item number of each text of a row, in the numbering of `items["text"]`."""
    return [text_item(text) for text in texts_of(samples, row)]


def items_of(samples: Any, modalities: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the item numbers (N,) int64 of each modality, -1 where a row lacks it.

    Samples that give no `items` of a modality are taken to hold another item in every row.
    """
    known, present = getattr(samples, "items", None) or {}, getattr(samples, "present", None) or {}
    found = {name: known.get(name, np.arange(len(samples))) for name in modalities}
    return {name: np.where(present[name], own, MISSING) if name in present else own for name, own in found.items()}


def chooses_texts(samples: Any, modality: str) -> bool:
    """Return whether training draws among several texts of a row; of samples that do not say so it is assumed."""
    return samples.chooses_texts(modality) if hasattr(samples, "chooses_texts") else True


def sources_of(samples: Any) -> list[Any]:
    """Return `samples` and all those of which they are some rows, down to what reads.

    What stands for all rows of another split (`read_as`) is left out: it reads nothing by itself.
    """
    inner = getattr(samples, "samples", None)
    own = [] if getattr(samples, "read_as", None) else [samples]
    return [*own, *(sources_of(inner) if inner is not None else ())]


class ChosenSamples:
    """Some rows of any `samples`. Where they are all rows of a split, `read_as` may name it: what is kept of it serves both."""

    read_as: str | None = None

    def __init__(self, samples: Samples, rows: Sequence[int] | np.ndarray):
        self.samples, self.rows = samples, np.asarray(rows)
        self.concepts, self.labels = samples.concepts[self.rows], samples.labels[self.rows]
        known = {name: getattr(samples, name, None) for name in ("targets", "number")}
        chosen = {name: None if values is None else values[self.rows] for name, values in known.items()}
        self.targets, self.number = chosen["targets"], chosen["number"]
        self.present = chosen_present(samples, self.rows)
        self.items = {name: own[self.rows] for name, own in (getattr(samples, "items", None) or {}).items()}

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, row: int, modality: str, rng: np.random.Generator | None = None) -> Any:
        """Return the raw value of a chosen row."""
        return self.samples.read(int(self.rows[row]), modality, rng)

    def texts(self, row: int) -> list[str]:
        """Return the texts of a chosen row."""
        return texts_of(self.samples, int(self.rows[row]))

    def text_items(self, row: int) -> list[int]:
        """Return the item number of each text of a chosen row."""
        return text_items_of(self.samples, int(self.rows[row]))

    def chooses_texts(self, modality: str) -> bool:
        """Return whether the samples have rows with several texts."""
        return chooses_texts(self.samples, modality)

    def where(self, row: int) -> str:
        """Return file and row of a chosen row."""
        return self.samples.where(int(self.rows[row]))

    def stamp(self) -> str:
        """Return the digest of the files that all rows name, where they name any."""
        return getattr(self.samples, "stamp", str)()
