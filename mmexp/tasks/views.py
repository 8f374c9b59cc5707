"""One step as its objectives see it: each view of the batch is encoded once and shared."""

from collections.abc import Callable
from functools import cached_property
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from mmexp.curriculum import Curriculum, current
from mmexp.model import Model
from mmexp.types import Batch, Encoded, Prepared, Said, Views


class StepViews:
    """Implements `mmexp.types.Views` for one batch; `progress` is the share (0 to 1) of the run that is done."""

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
        changed = self.batch.get("strong", {})
        return self._encoded | {name: self.encode(name, prepared) for name, prepared in changed.items()}

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

    def current(self, value: Curriculum[float]) -> float:
        """Return what a value that may change in the course of the run is in this step."""
        return current(value, self.progress)


def looks_at(objective: Any, views: Views) -> Any:
    """Return what a head answers of: the encoding of its `source`, or the whole step where it encodes something itself."""
    return views if getattr(objective, "sees_step", False) else views.source(objective.source)
