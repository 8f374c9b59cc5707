"""From samples to batches: the order of rows, what was decoded kept, each encoder's own preparation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmexp.data.orders import AS_IT_IS, EvaluationOrder, SequenceOrder, TrainOrder
from mmexp.data.variation import Variation
from mmexp.errors import RequestError
from mmexp.types import Batch, Encoder, Kept, NonNegativeInt, Place, PositiveInt, Prepared, Samples


@dataclass(frozen=True)
class Loading:
    """How rows become batches: the keys that every choice of `data` shares.

    `batch_size` counts the rows of one step over all processes. Decoded pictures stay in memory while a split's fit into
    `cache_bytes`, and so do its sounds and videos, each modality counted by itself. Of `train` only `shots` rows of each class
    are read, and a batch is then at most all of them.
    """

    batch_size: PositiveInt = 128
    num_workers: NonNegativeInt = 0
    cache_bytes: NonNegativeInt = 2_000_000_000
    shots: PositiveInt | None = None

    def of(self, train: Samples) -> "Loading":
        """Return how `train` is read: few shots may be fewer than a batch."""
        return replace(self, batch_size=min(self.batch_size, len(train))) if self.shots else self


def _form(encoder: Any) -> dict[str, Tensor]:
    """Return what an encoder makes of one raw value, empty: first what augmentations change."""
    if encoder.modality == "audio":
        return {"samples": torch.empty(encoder.length)}
    pixels = torch.empty(3, encoder.image_size, encoder.image_size, dtype=torch.uint8)
    if encoder.modality == "image":
        return {"pixels": pixels}
    return {"frames": pixels.expand(encoder.frames, -1, -1, -1), "mask": torch.empty(encoder.frames, dtype=torch.bool)}


class Decoded:
    """One modality of a split as its encoder wants it, decoded once where it fits into memory shared by workers."""

    kinds = ("image", "audio", "video")

    def __init__(self, samples: Samples, name: str, encoder: Any, cache_bytes: int):
        self.samples, self.name, self.encoder = samples, name, encoder
        form = _form(encoder)
        self.key = next(iter(form))
        bytes_each = sum(one.numel() * one.element_size() for one in form.values())
        kept = len(samples) if len(samples) * bytes_each <= cache_bytes else 0
        self.values = {key: one.new_empty(kept, *one.shape).share_memory_() for key, one in form.items()}
        self.decoded = torch.zeros(kept, dtype=torch.bool).share_memory_()

    def __call__(self, rows: list[int]) -> Prepared:
        """Return pictures uint8 (B, 3, S, S), sounds float32 (B, T), or frames uint8 (B, T, 3, S, S) with their mask (B, T)."""
        if not len(self.decoded):
            return self._decode(rows)
        missing = [row for row in rows if not self.decoded[row]]
        if missing:
            for key, values in self._decode(missing).items():
                self.values[key][missing] = values
            self.decoded[missing] = True
        return {key: values[rows] for key, values in self.values.items()}

    def _decode(self, rows: list[int]) -> Prepared:
        return self.encoder.prepare([self.samples.read(row, self.name) for row in rows])


class PreparedSamples(Dataset[Batch]):
    """Whole batches of a split, as its encoders want them; `teacher` holds the same samples as a teacher wants them.

    `strong` is a second variation: what it changes is in the batch a second time, below `strong`. What frozen parts say may
    be `kept`: by modality an encoder's, and the teacher's as `teacher`. Modalities that are `spared` are not prepared.
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
        self.readers = self._readers(encoders, loading)
        self.teachers = self._readers(teachers, loading) if teachers else None
        self.kept: dict[str, Kept] = {}
        self.spared: frozenset[str] = frozenset()

    def _readers(self, encoders: Mapping[str, Encoder], loading: Loading) -> dict[str, Any]:
        return {
            name: Decoded(self.samples, name, encoder, loading.cache_bytes)
            if encoder.modality in Decoded.kinds
            else encoder
            for name, encoder in encoders.items()
        }

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, places: Sequence[Place]) -> Batch:
        """Return the batch of `places`."""
        rows = [row for row, _ in places]
        batch: Batch = {
            "index": torch.tensor(rows),
            "concept": torch.from_numpy(self.samples.concepts[rows]),
            "label": torch.from_numpy(self.samples.labels[rows]),
            **{name: values[rows] for name, values in self.known.items()},
            **self.inputs(places, [name for name in self.readers if name not in self.spared]),
        }
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

    def inputs(self, places: Sequence[Place], modalities: Sequence[str]) -> dict[str, Prepared]:
        """Return the chosen modalities as their encoders want them."""
        return self._prepared({name: self.readers[name] for name in modalities}, places, self.variation)

    def teacher_inputs(self, places: Sequence[Place]) -> dict[str, Prepared]:
        """Return all modalities as the teacher wants them."""
        return self._prepared(self.teachers or {}, places, self.variation)

    def _prepared(
        self, readers: dict[str, Any], places: Sequence[Place], variation: Variation | None
    ) -> dict[str, Prepared]:
        prepared: dict[str, Prepared] = {}
        for name, reader in readers.items():
            if isinstance(reader, Decoded):
                values = reader([row for row, _ in places])
                prepared[name] = _changed(reader, values, places, variation) if variation else _finished(reader, values)
            else:
                prepared[name] = reader.prepare(self.values(name, places, variation))
        return prepared

    def values(self, name: str, places: Sequence[Place], variation: Variation | None) -> list[Any]:
        """Return what an encoder prepares, for example the texts (B) as they read in their epoch."""
        values = [self._value(name, place, variation) for place in places]
        return variation(_encoder(self.readers[name]).modality, values, places, name) if variation else values

    def _value(self, modality: str, place: Place, variation: Variation | None) -> Any:
        row, epoch = place
        rng = variation.text(row, epoch) if variation and epoch != AS_IT_IS else None
        return self.samples.read(row, modality, rng)


# By kind of modality the kinds of augmentations that change it: pictures' the frames of videos too.
CHANGED_BY = {"image": {"image"}, "text": {"text"}, "audio": {"audio", "spectrogram"}, "video": {"image"}}


def _encoder(reader: Any) -> Any:
    return reader.encoder if isinstance(reader, Decoded) else reader


def _finished(reader: Decoded, values: Prepared) -> Prepared:
    """Return pictures and videos as they are, and sounds as the spectrograms that their encoder makes of them, if it does."""
    return reader.encoder.spectrogram(values["samples"]) if hasattr(reader.encoder, "spectrogram") else values


def _changed(reader: Decoded, values: Prepared, places: Sequence[Place], variation: Variation) -> Prepared:
    """Return pictures, videos or sounds as they are varied; all frames of a video alike, for each has the same draws."""
    name, kind, raw = reader.name, reader.encoder.modality, values[reader.key]
    if kind == "video":
        frames = [variation("image", frame, places, name) for frame in raw.unbind(1)]
        return {**values, reader.key: torch.stack(frames, 1)}
    prepared = _finished(reader, {**values, reader.key: variation(kind, raw, places, name)})
    if "spectrogram" in prepared:
        prepared["spectrogram"] = variation("spectrogram", prepared["spectrogram"], places, name)
    return prepared


def _as_it_is(batch: Any) -> Any:
    return batch


def _loader(samples: PreparedSamples, order: Any, loading: Loading) -> DataLoader[Batch]:
    return DataLoader(
        samples,
        batch_sampler=order,
        collate_fn=_as_it_is,
        num_workers=loading.num_workers,
        persistent_workers=loading.num_workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


Encoders = Mapping[str, Encoder]


def train_loader(
    samples: Samples,
    encoders: Encoders,
    loading: Loading,
    variation: Variation,
    teachers: Encoders | None = None,
    strong: Variation | None = None,
    seed: int | None = None,
) -> DataLoader[Batch]:
    """Return batches of `loading.batch_size` rows, shuffled by `seed`, None by that of the variation.

    Raises RequestError where there are fewer rows than that.
    """
    if len(samples) < loading.batch_size:
        raise RequestError(
            f"data.batch_size={loading.batch_size} is more than the {len(samples)} rows of the train split. "
            f"Set data.batch_size={len(samples)} or less."
        )
    order = TrainOrder(len(samples), loading.batch_size, variation.seed if seed is None else seed)
    return _loader(PreparedSamples(samples, encoders, loading, variation, teachers, strong), order, loading)


def sequence_loader(samples: PreparedSamples, order: SequenceOrder, loading: Loading) -> DataLoader[Batch]:
    """Return the batches of one task after another."""
    return _loader(samples, order, loading)


def evaluation_loader(
    samples: Samples, encoders: Encoders, loading: Loading, teachers: Encoders | None = None
) -> DataLoader[Batch]:
    """Return all rows in order, without variation."""
    order = EvaluationOrder(len(samples), loading.batch_size)
    return _loader(PreparedSamples(samples, encoders, loading, teachers=teachers), order, loading)
