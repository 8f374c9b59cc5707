"""One step as its objectives see it: each view of the batch is encoded once and shared."""

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from mmexp.curriculum import Curriculum, current
from mmexp.draws import RowGenerator
from mmexp.model import Model, emptied
from mmexp.rows import take
from mmexp.step import Views
from mmexp.types import Batch, Encoded, Prepared, Said


class StepViews:
    """Implements `mmexp.step.Views` for one batch; `progress` is the share (0 to 1) of the run that is done."""

    def __init__(
        self,
        model: Model,
        batch: Batch,
        seed: int,
        step: int,
        gather: Callable[[Tensor], Tensor],
        teach: Callable[[Batch], Said] | None = None,
        progress: float = 1.0,
    ):
        self.model, self.batch, self.seed, self.step, self.gather = model, batch, seed, step, gather
        self.progress = progress
        self._teach = teach

    def having(self, *modalities: str) -> "StepViews | None":
        """Return the rows that have all of `modalities`: the step itself where each row has, None where no row has."""
        present = self.batch.get("present", {})
        known = [present[name] for name in modalities if name in present]
        if not known:
            return self
        rows = torch.stack(known).all(0).nonzero().squeeze(1)
        if len(rows) == len(known[0]):
            return self
        return self.only(rows) if len(rows) else None

    def only(self, rows: Tensor) -> "StepViews":
        """Return some rows (R,) of the step; their clean encodings are those of the whole."""
        return SomeRows(self, rows)

    @cached_property
    def _encoded(self) -> dict[str, Encoded]:
        return self.model.encode(self.batch)

    @cached_property
    def _fused(self) -> Encoded:
        return self.model.fuse(self._encoded)

    @cached_property
    def _taught(self) -> Said:
        assert self._teach is not None, "the configuration check refuses objectives that lack a teacher"
        return self._teach(self.batch)

    def encoded(self) -> dict[str, Encoded]:
        """Return the clean encoding of every modality."""
        return self._encoded

    def fused(self) -> Encoded:
        """Return the fusion of the clean view."""
        return self._fused

    def source(self, name: str) -> Encoded:
        """Return the clean encoding that a head looks at: `fused`, or that of a modality."""
        return self._fused if name == "fused" else self._encoded[name]

    @cached_property
    def _strong(self) -> dict[str, Encoded]:
        changed = {**self.batch.get("strong", {}), "present": self.batch.get("present", {})}
        return self._encoded | self.model.encode(changed)

    def strong(self) -> dict[str, Encoded]:
        """Return the encoding of every modality, of its strongly augmented input where the batch has one."""
        return self._strong

    def encode(self, modality: str, prepared: Prepared, keep: Tensor | None = None) -> Encoded:
        """Encode a changed input of one modality, or only the tokens `keep (B, K)` of it."""
        return self.model.encode_one(modality, prepared, keep)

    def fuse(self, encoded: dict[str, Encoded]) -> Encoded:
        """Fuse other pairs than the batch's own."""
        return self.model.fuse(encoded)

    def teacher(self, kind: str) -> dict[str, Tensor]:
        """Return one kind of what the teacher says, by modality; `{"ids", "mask"}` of `captions`, `{"logits"}` of `logits`."""
        parts = {tuple(name.partition("/")[::2]): tensor for name, tensor in self._taught.items()}
        return {rest or kind: tensor for (own, rest), tensor in parts.items() if own == kind}

    def generator(self, name: str) -> torch.Generator:
        """Return a CPU generator whose numbers depend on seed, step and `name` alone."""
        return torch.Generator().manual_seed(crc32(f"{self.seed} {self.step} {name}".encode()))

    def row_generator(self, name: str) -> RowGenerator:
        """Return random numbers for each row, a function of seed, step, row and `name`."""
        return RowGenerator(self.seed, self.step, self.batch["index"], name)

    def current(self, value: Curriculum[float]) -> float:
        """Return what a value that may change in the course of the run is in this step."""
        return current(value, self.progress)


class SomeRows(StepViews):
    """Some `rows (R,)` of a step: what an objective learns from where the others lack a modality that it needs."""

    def __init__(self, whole: StepViews, rows: Tensor):
        batch = _taken(whole.batch, rows)
        super().__init__(whole.model, batch, whole.seed, whole.step, whole.gather, None, whole.progress)
        self.whole, self.rows = whole, rows

    @cached_property
    def _encoded(self) -> dict[str, Encoded]:
        return {name: encoded[self.rows] for name, encoded in self.whole._encoded.items()}

    @cached_property
    def _fused(self) -> Encoded:
        return self.whole._fused[self.rows]

    @cached_property
    def _strong(self) -> dict[str, Encoded]:
        return {name: encoded[self.rows] for name, encoded in self.whole._strong.items()}

    @cached_property
    def _taught(self) -> Said:
        return _taken(self.whole._taught, self.rows)


class Without(StepViews):
    """A step of which nothing but the modalities `kept` is there; each row stays encoded as it was with all of them."""

    def __init__(self, whole: StepViews, kept: Collection[str]):
        present = whole.batch.get("present", {})
        rows = torch.ones(len(whole.batch["index"]), dtype=torch.bool, device=whole.batch["index"].device)
        gone = {name: torch.zeros_like(rows) for name in whole.encoded() if name not in kept}
        batch = {**whole.batch, "present": {**present, **gone}} if gone else whole.batch
        super().__init__(whole.model, batch, whole.seed, whole.step, whole.gather, None, whole.progress)
        self.whole, self.gone = whole, gone

    @cached_property
    def _encoded(self) -> dict[str, Encoded]:
        said = self.whole._encoded
        return said | {name: emptied(said[name], nowhere) for name, nowhere in self.gone.items()}


def _taken(part: Any, rows: Tensor) -> Any:
    """Return the chosen rows of a batch, whose tensors all begin with its rows."""
    return (
        {name: _taken(value, rows) for name, value in part.items()} if isinstance(part, Mapping) else take(part, rows)
    )


def looks_at(objective: Any, views: Views) -> Any:
    """Return what a head answers of: the encoding of its `source`, or the whole step where it encodes something itself."""
    return views if getattr(objective, "sees_step", False) else views.source(objective.source)


def having_source(objective: Any, views: Views) -> Tensor | None:
    """Return which rows (B,) have what a head looks at, its `source`; None where no row of the data lacks any modality."""
    if "present" not in views.batch:
        return None
    encoded = views.encoded()
    looked_at = encoded.values() if objective.source == "fused" else [encoded[objective.source]]
    return torch.stack([e.there() for e in looked_at]).any(0)
