"""The autoencoder: what went in, made again from one vector (Hinton and Salakhutdinov, Science 2006), also across modalities."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.errors import RequestError, nearest
from mmexp.objectives.hiding import to_patches
from mmexp.objectives.presence import count, mean, no_loss
from mmexp.rows import take
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import PositiveInt, Prepared


class Decoder(nn.Module):
    """Makes `width` values for each of `places` from a vector of `dim` and the place alone, with no look at its neighbours.

    The vector is put to every place, as the spatial broadcast decoder does (arXiv:1901.07017); places are learned.
    """

    def __init__(self, dim: int, places: int, width: int, hidden: int):
        super().__init__()
        self.enter, self.middle, self.leave = (
            nn.Linear(dim, hidden),
            nn.Linear(hidden, hidden),
            nn.Linear(hidden, width),
        )
        self.places = nn.Parameter(torch.empty(places, hidden))
        nn.init.normal_(self.places, std=0.5)

    def forward(self, pooled: Tensor, wanted: Tensor) -> Tensor:
        """Return (T, width) for the places where `wanted (B, N)` is true, N at most `places`; `pooled (B, dim)`."""
        inner = self.enter(pooled)[:, None] + self.places[: wanted.shape[1]]
        return self.leave(F.gelu(self.middle(F.gelu(take(inner, wanted)))))


def form(shape: ModelShape, modality: str) -> tuple[int, int]:
    """Return how many places a modality's input has, and how many values a place.

    Raises RequestError for an encoder that does not say so.
    """
    context, vocabulary, side = shape.context or 0, shape.vocab_size or 0, shape.image_size or 0
    grids = {"text": (context,), "image": shape.grid or (0,), "audio": shape.audio_grid or (0,)}
    sizes = {"text": context * vocabulary, "image": 3 * side**2, "audio": prod(shape.spectrogram_size or (0,))}
    places, size = prod(grids.get(modality, (0,))), sizes.get(modality, 0)
    if not (places and size):
        raise RequestError(f"this {modality} encoder does not say what its input is made of. Leave it out of targets.")
    return places, size // places


class Autoencoder(nn.Module):
    """Make the `targets` (None: all modalities) from the pooled vector of `source`: `fused`, or one modality's own.

    A modality that is its own source is compressed; `source` image and target text say what a picture shows. Pictures
    (from -1 to 1) and spectrograms are compared patch by patch in square, words by cross-entropy at each place, all at
    once. Raises RequestError for a target that the model does not have or cannot make.
    """

    needs = ("{source}", "tokens", "inputs")

    def __init__(
        self,
        shape: ModelShape,
        *,
        source: str = "fused",
        targets: Sequence[str] | None = None,
        hidden: PositiveInt = 256,
    ):
        super().__init__()
        for name in targets or ():
            if name not in shape.dims:
                raise RequestError(f"'{name}' in targets is no modality of this model.{nearest(name, shape.dims)}")
        self.source = source
        self.grids: Any = {"image": shape.grid, "audio": shape.audio_grid}
        self.decoders = nn.ModuleDict(
            {
                name: Decoder(shape.source_dim(source), *form(shape, name), hidden)
                for name in sorted(targets or shape.dims)
            }
        )

    def forward(self, views: Views) -> Terms:
        """Return a loss for each target that the batch holds, of the rows that have it and the source."""
        encoded = views.encoded()
        if self.source != "fused" and self.source not in encoded:
            return Terms({})
        told = {name: views.having(self.source, name) for name in self.decoders if name in encoded}
        none = no_loss(self, views)
        each = {name: none.new_zeros(0) if rows is None else self._losses(name, rows) for name, rows in told.items()}
        losses = {f"autoencoder_{name}": mean(found) if len(found) else none for name, found in each.items()}
        return Terms(losses, counts={f"autoencoder_{name}": count(none, len(found)) for name, found in each.items()})

    def _losses(self, modality: str, views: Views) -> Tensor:
        """Return for each real place (P,) of the input how far what is decoded from the source's vector is from it."""
        prepared, real = views.batch[modality], views.encoded()[modality].mask
        made = self.decoders[modality](views.source(self.source).pooled, real).float()
        if modality == "text":
            return F.cross_entropy(made, prepared["ids"][real], reduction="none")
        return (made - self._patches(modality, prepared)[real]).square().mean(-1)

    def _patches(self, modality: str, prepared: Prepared) -> Tensor:
        """Return the patches (B, N, width) of pixels from -1 to 1 or of a spectrogram."""
        if modality == "image":
            return to_patches(prepared["pixels"].float() / 127.5 - 1, self.grids["image"])
        return to_patches(prepared["spectrogram"][:, None].float(), self.grids["audio"])
