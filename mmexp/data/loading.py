"""From samples to batches: what was decoded kept, each encoder's own preparation, blanks where a row lacks something."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmexp.data.chosen import chooses_texts, items_of
from mmexp.data.decoded import CHANGED_BY, Decoded
from mmexp.data.variation import Variation
from mmexp.errors import RequestError
from mmexp.types import AS_IT_IS, Batch, Encoder, Fraction, Kept, NonNegativeInt, Place, PositiveInt, Prepared, Samples


@dataclass(frozen=True)
class Loading:
    """How rows become batches: the keys that every choice of `data` shares.

    Test sets are also measured `without` each of these modalities.

    `batch_size` counts the rows of one step over all processes. Decoded pictures stay in memory while a split's fit into
    `cache_bytes`, and so do its sounds and videos, each modality counted by itself. Of `train` only a `fraction` of the rows
    is read, and of these only `shots` rows of each class. A batch of training is at most all of them. `by_length` puts
    texts of like length into a batch. `num_workers` None: as many as the hardware leaves cores for.
    """

    batch_size: PositiveInt = 128
    num_workers: NonNegativeInt | None = 0
    by_length: bool = False
    cache_bytes: NonNegativeInt = 2_000_000_000
    without: list[str] | None = None
    shots: PositiveInt | None = None
    fraction: Fraction | None = None

    def of(self, rows: int, processes: int = 1) -> "Loading":
        """Return how training reads `rows` rows: a batch has at most all of them, and as many for each of the `processes`."""
        if rows >= self.batch_size:
            return self
        if rows < processes:
            raise RequestError(
                f"{rows} rows to train on are fewer than the {processes} processes. Use fewer processes."
            )
        return replace(self, batch_size=rows - rows % processes)


class PreparedSamples(Dataset[Batch]):
    """Whole batches of a split, as its encoders want them; `teacher` holds the same samples as a teacher wants them.

    `strong` is a second variation: what it changes is in the batch a second time, below `strong`. What frozen parts say may
    be `kept`: by modality an encoder's, and the teacher's as `teacher`. Modalities that are `spared` are not prepared. What a
    row lacks is blank: grey, grey frames, an empty text, silence. Raises RequestError for a row that lacks all that is read.
    """

    def __init__(
        self,
        samples: Samples,
        encoders: Mapping[str, Encoder],
        loading: Loading,
        variation: Variation | None = None,
        teachers: Mapping[str, Encoder] | None = None,
        strong: Variation | None = None,
    ):
        self.samples, self.variation, self.strong = samples, variation, strong
        known = {name: getattr(samples, name, None) for name in ("targets", "number")}
        self.known = {name: torch.from_numpy(values) for name, values in known.items() if values is not None}
        self.present = {n: torch.from_numpy(p) for n, p in (getattr(samples, "present", None) or {}).items()}
        self.items = {name: torch.from_numpy(own) for name, own in items_of(samples, encoders).items()}
        self.readers = self._readers(encoders, loading)
        self._refuse_empty_rows()
        self.teachers = self._readers(teachers, loading) if teachers else None
        self.kept: dict[str, Kept] = {}
        self.spared: frozenset[str] = frozenset()
        self._several: dict[str, bool] = {}

    def _readers(self, encoders: Mapping[str, Encoder], loading: Loading) -> dict[str, Any]:
        return {
            name: Decoded(self.samples, name, encoder, loading.cache_bytes, loading.num_workers or 0)
            if encoder.modality in Decoded.kinds
            else encoder
            for name, encoder in encoders.items()
        }

    def _refuse_empty_rows(self) -> None:
        if not set(self.readers) <= set(self.present):
            return
        empty = (~torch.stack([self.present[name] for name in self.readers]).any(0)).nonzero()
        if len(empty):
            more = f" So have {len(empty) - 1} more rows." if len(empty) > 1 else ""
            raise RequestError(
                f"{self.samples.where(int(empty[0]))}: it has nothing to read, no {' and no '.join(self.readers)}.{more}"
            )

    @property
    def mixing(self) -> list[Any]:
        """Return the augmentations of the whole batch by which a row depends on others."""
        every: Sequence[Any] = self.variation.augmentations if self.variation else ()
        return [a for a in every if a.modality is None and getattr(a, "mixes", True)]

    def varied_by(self, modalities: Iterable[str], teacher: bool = False) -> list[str]:
        """Return in words what makes the inputs of these modalities differ between epochs, those of the teacher or the model."""
        if self.variation is None:
            return []
        readers = (self.teachers if teacher else self.readers) or {}
        kinds = {name: _encoder(readers[name]).modality for name in modalities}
        changing = set().union(*(CHANGED_BY[kind] for kind in kinds.values()))
        augmentations = [a for a in self.variation.augmentations if a.modality in changing or a in self.mixing]
        drawn = [name for name, kind in kinds.items() if kind == "text" and self._draws_texts(name)]
        return [
            *(f"augmentation '{type(a).__name__.lower()}'" for a in augmentations),
            *(["the choice among a row's texts"] if drawn else []),
        ]

    def _draws_texts(self, name: str) -> bool:
        """Return whether a text is drawn among several of a row; all cells are read for it once."""
        if name not in self._several:
            self._several[name] = chooses_texts(self.samples, name)
        return self._several[name]

    def presence(self, rows: Sequence[int], modalities: Iterable[str]) -> dict[str, Tensor]:
        """Return which of `rows` (B,) have each of those modalities that some row of the split lacks."""
        return {name: self.present[name][list(rows)] for name in modalities if name in self.present}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, places: Sequence[Place]) -> Batch:
        """Return the batch of `places`."""
        rows = [row for row, _ in places]
        batch: Batch = {
            "index": torch.tensor(rows),
            "concept": torch.from_numpy(self.samples.concepts[rows]),
            "label": torch.from_numpy(self.samples.labels[rows]),
            "items": {name: own[rows] for name, own in self.items.items()},
            **{name: values[rows] for name, values in self.known.items()},
            **self.inputs(places, [name for name in self.readers if name not in self.spared]),
        }
        if present := self.presence(rows, self.readers):
            batch["present"] = present
        kept = {name: outputs(places) for name, outputs in self.kept.items()}
        if "teacher" in kept:
            batch["taught"] = kept.pop("teacher")
        elif self.teachers:
            batch["teacher"] = self.teacher_inputs(places)
        if kept:
            batch["encoded"] = kept
        if self.strong:
            changed = {a.modality for a in self.strong.augmentations}
            readers = {name: one for name, one in self.readers.items() if changed & CHANGED_BY[_encoder(one).modality]}
            batch["strong"] = self._prepared(readers, places, self.strong)
        return self.variation(None, batch, places) if self.variation else batch

    def inputs(self, places: Sequence[Place], modalities: Sequence[str]) -> Batch:
        """Return the chosen modalities as their encoders want them, with `present` where rows lack any of these."""
        return self._inputs({name: self.readers[name] for name in modalities}, places)

    def teacher_inputs(self, places: Sequence[Place]) -> Batch:
        """Return all modalities as the teacher wants them, with `present`, and the rows' numbers, by which it draws its texts."""
        return {"index": torch.tensor([row for row, _ in places]), **self._inputs(self.teachers or {}, places)}

    def _inputs(self, readers: dict[str, Any], places: Sequence[Place]) -> Batch:
        present = self.presence([row for row, _ in places], readers)
        prepared = self._prepared(readers, places, self.variation)
        return {**prepared, "present": present} if present else {**prepared}

    def _prepared(
        self, readers: dict[str, Any], places: Sequence[Place], variation: Variation | None
    ) -> dict[str, Prepared]:
        prepared: dict[str, Prepared] = {}
        for name, reader in readers.items():
            if isinstance(reader, Decoded):
                prepared[name] = self._decoded(reader, places, variation)
            else:
                prepared[name] = reader.prepare(self.values(name, places, variation))
        return prepared

    def _decoded(self, reader: Decoded, places: Sequence[Place], variation: Variation | None) -> Prepared:
        """Return pictures, sounds or videos (B, ...), blank where a row has none."""
        there = self._having(reader.name, places)
        if there is None:
            return reader.read(places, variation)
        whole = reader.blanks(len(places))
        for key, values in reader.read([places[i] for i in there], variation).items() if there else ():
            whole[key][there] = values
        return whole

    def _having(self, name: str, places: Sequence[Place]) -> list[int] | None:
        """Return which of the places have a modality, None where all rows of the split have it."""
        if name not in self.present:
            return None
        return self.present[name][[row for row, _ in places]].nonzero().flatten().tolist()

    def values(self, name: str, places: Sequence[Place], variation: Variation | None) -> list[Any]:
        """Return what an encoder prepares, for example the texts (B) as they read in their epoch; empty where there is none."""
        there = self._having(name, places)
        own = [places[i] for i in there] if there is not None else places
        values = [self._value(name, place, variation) for place in own]
        if variation and own:
            values = variation(_encoder(self.readers[name]).modality, values, own, name)
        if there is None:
            return values
        whole = [""] * len(places)
        for place, value in zip(there, values, strict=True):
            whole[place] = value
        return whole

    def _value(self, modality: str, place: Place, variation: Variation | None) -> Any:
        row, epoch = place
        rng = variation.text(row, epoch) if variation and epoch != AS_IT_IS else None
        return self.samples.read(row, modality, rng)


def _encoder(reader: Any) -> Any:
    return reader.encoder if isinstance(reader, Decoded) else reader
