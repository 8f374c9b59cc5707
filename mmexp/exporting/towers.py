"""The towers of a run as modules of their own: prepared tensors of one modality in, unit vectors of the common space out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mmexp.errors import RequestError
from mmexp.model import Model
from mmexp.types import Prepared

ROWS, LENGTH = "batch", "length"
# Captions of one and of many words, by which a program is traced.
CAPTIONS = ("a picture", "a very small red thing on the left of a blue one", "word")
# Beside these, an export is checked by a caption that is cut, an empty one, and one that is not ASCII.
HARD_CAPTIONS = ("a very small red thing on the left of a blue one " * 60, "", "Grüße, “東京” №5 — привет 🐻 naïve ﬁ")


class Tower(nn.Module):
    """An encoder with its head: its prepared tensors (B, ...), in the order of their names `inputs`, to unit vectors (B, D)."""

    def __init__(self, name: str, model: Model, head: Any):
        super().__init__()
        self.name, self.encoder, self.head = name, model.encoders[name], head
        if name in model.alignment:
            raise RequestError(
                f"{name}: what an adapter has behind this tower is not exported. Take a run without one of it."
            )
        self.eval()
        self.inputs = tuple(prepared_rows(self, hard=False))

    def forward(self, *prepared: Tensor) -> Tensor:
        """Return unit vectors (B, D)."""
        said = self.encoder(dict(zip(self.inputs, prepared, strict=True)))
        return self.head.embed({self.name: said})[self.name]


def towers(model: Model, heads: Mapping[str, Any], source: str) -> dict[str, Tower]:
    """Return every tower of a run, by its name. Raises RequestError for a run without a common space."""
    head = next((one for one in heads.values() if hasattr(one, "embed")), None)
    if head is None:
        raise RequestError(f"no objective of '{source}' has a common space. Take a run of contrastive or siglip.")
    return {name: Tower(name, model, head) for name in model.encoders}


def values_of(encoder: Any, hard: bool = True) -> list[Any]:
    """Return raw values as an encoder prepares them: pictures of several sizes, captions of several lengths.

    `hard` captions are among them where the encoder reads them: of a tokenizer without marks an empty text has no token.
    """
    draws = np.random.default_rng(0)
    if encoder.modality == "text":
        more = [text for text in HARD_CAPTIONS if hard and encoder.prepare([text, "a"])["mask"].any(1).all()]
        return [*CAPTIONS, *more]
    if encoder.modality == "audio":
        rate = getattr(encoder, "rate", 16_000)
        return [(draws.normal(0, 0.1, int(encoder.length * share)).astype(np.float32), rate) for share in (1, 0.6, 0.8)]
    sizes = [(80, 100), (64, 64), (150, 70)]
    if encoder.modality == "video":
        return [[_picture(draws, size)] * encoder.frames for size in sizes]
    return [_picture(draws, size) for size in sizes]


def _picture(draws: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(draws.integers(256, size=(*size, 3), dtype=np.uint8))


def prepared_rows(tower: Tower, hard: bool = True) -> Prepared:
    """Return the rows of a tower's input by which an export is checked, those of `hard` captions among them.

    Which tokens are `real` is for objectives: no encoder reads it.
    """
    prepared = tower.encoder.prepare(values_of(tower.encoder, hard))
    return {name: part for name, part in prepared.items() if name != "real"}


def row_counts(prepared: Prepared) -> tuple[int, int]:
    """Return how many of the rows are asked for at once: one, and all."""
    return 1, len(next(iter(prepared.values())))


def program(tower: Tower) -> Any:
    """Return the tower as an exported program of torch, for any number of rows and words. Raises RequestError."""
    prepared = prepared_rows(tower, hard=False)
    rows = torch.export.Dim(ROWS, min=1, max=65_536)
    axes: dict[str, dict[int, Any]] = {name: {0: rows} for name in prepared}
    if tower.encoder.modality == "text":
        length = torch.export.Dim(LENGTH, min=2, max=tower.encoder.context)
        free = getattr(tower.encoder, "trims", True)
        axes = {name: {0: rows, 1: length} if free else {0: rows} for name in prepared}
    try:
        with torch.no_grad():
            return torch.export.export(tower, tuple(prepared.values()), dynamic_shapes=(tuple(axes.values()),))
    except Exception as error:
        raise RequestError(
            f"{tower.name}: torch cannot export this encoder: {str(error).strip().splitlines()[0][:200]}"
        ) from error


def farthest(tower: Tower, said: Mapping[int, Tensor]) -> float:
    """Return how far vectors of the first so many rows are from the tower's own, at most."""
    prepared = prepared_rows(tower)
    with torch.no_grad():
        own = {rows: tower(*(part[:rows] for part in prepared.values())) for rows in said}
    return max(float((own[rows] - vectors).abs().max()) for rows, vectors in said.items())
