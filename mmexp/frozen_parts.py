"""The frozen parts of a run, and what each says of a batch: encoders, what of one lies below trained blocks, the teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mmexp.caching import fingerprint
from mmexp.data.loading import PreparedSamples
from mmexp.model import Model, encode_present
from mmexp.prefix import Prefix, spares_input
from mmexp.teacher import Teacher
from mmexp.types import Batch, Place

TEACHER = "teacher"


@dataclass
class FrozenPart:
    """A frozen encoder, by the name of its modality, what of it lies below its lowest trained block, or the teacher."""

    name: str
    module: nn.Module
    tokens: bool = True
    prefix: Prefix | None = None

    def __str__(self) -> str:
        return self.name if self.prefix is None else f"{self.name} up to {self.prefix.skipped[-1]}"

    def inputs(self, samples: PreparedSamples, places: Sequence[Place]) -> Batch:
        """Return the batch of `places` as this part reads it."""
        if self.name == TEACHER:
            return samples.teacher_inputs(places)
        return samples.inputs(places, [self.name])

    def varied_by(self, samples: PreparedSamples) -> list[str]:
        """Return in words what makes its inputs differ between epochs; nothing where all rows come back unchanged."""
        if self.name == TEACHER:
            return samples.varied_by(samples.teachers or (), teacher=True)
        return samples.varied_by([self.name])

    @property
    def spares_input(self) -> bool:
        """Whether what it said stands for what the encoder reads."""
        return self.name != TEACHER and (self.prefix is None or spares_input(self.module))

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Return what is kept of a batch: named tensors (B, ...)."""
        if self.name == TEACHER:
            return self.module(batch)
        if self.prefix:
            return self.prefix.below(self.module, batch[self.name])
        encoded = encode_present(self.module, batch[self.name], batch.get("present", {}).get(self.name))
        whole = {"tokens": encoded.tokens, "mask": encoded.mask} if self.tokens else {}
        return {"pooled": encoded.pooled, **whole}

    def about(self) -> dict[str, Any]:
        """Return what its outputs depend on, the samples left out."""
        says: Any = self.tokens if self.name != TEACHER else list(getattr(self.module, "says", ()))
        if self.prefix:
            says = self.prefix.skipped[-1]
        return {
            "part": self.name,
            "kind": type(self.module).__name__,
            "weights": fingerprint.of_parts(self.module, self.prefix.resting)
            if self.prefix
            else fingerprint.of_module(self.module),
            "source": fingerprint.of_source(self.module.modules()),
            "says": says,
        }


def frozen_parts(
    model: Model, prefixes: Mapping[str, Prefix], teacher: Teacher | None, tokens: bool
) -> list[FrozenPart]:
    """Return the encoders without a trained weight, the `prefixes` of others by modality, and the teacher.

    Of encoders `tokens` says whether these are looked at.
    """
    found = [
        FrozenPart(name, encoder, tokens, prefixes.get(name))
        for name, encoder in model.encoders.items()
        if name in prefixes or not any(parameter.requires_grad for parameter in encoder.parameters())
    ]
    return [*found, FrozenPart(TEACHER, teacher)] if teacher else found
