"""What all image encoders share: preparing pictures, normalising them on the device, the form of the output."""

from collections.abc import Mapping, Sequence
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.attention import fast_attention
from mmexp.curriculum import Curriculum, current
from mmexp.encoders.pictures import PictureTransform, mean_colour, stack
from mmexp.encoders.unused import retire_unused
from mmexp.types import Encoded, Prepared

Triple = tuple[float, float, float]


class PictureEncoder(nn.Module):
    """Subclasses build themselves, define `features`, and call `settle` last.

    `transform` makes squares of S pixels a side (`image_size`) of pictures; given as S alone it pads them. `mean` and `std` are
    those of pixels from 0 to 1, `grid` says how many rows and columns of tokens there are, in row-major order. One that can
    leave tokens out sets `sees_parts`, and its `features` takes `keep (B, K)`, the places of those that stay; one that leaves
    some out in training sets `drop`, at the rate `patch_dropout`. Where `gives_tokens` is false, nobody looks at tokens, and it
    may leave them out of its encoding.
    """

    modality = "image"
    sees_parts, gives_tokens = False, True
    patch_dropout: Curriculum[float] = 0.0
    drop: Any
    scale: Tensor
    shift: Tensor

    def __init__(self, transform: PictureTransform | int, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        if isinstance(transform, int):
            transform = PictureTransform(transform, "pad", fill=mean_colour(mean))
        self.transform, self.image_size = transform, transform.size
        self.drop = None
        self.mean, self.std = tuple(mean), tuple(std)
        # Not part of the weights: they come from the configuration.
        deviation = torch.tensor(self.std).view(3, 1, 1)
        self.register_buffer("scale", 1 / deviation, persistent=False)
        self.register_buffer("shift", torch.tensor(self.mean).view(3, 1, 1) / deviation, persistent=False)

    def features(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (B, N, D) without class tokens, and pooled (B, D), of normalised pixels (B, 3, S, S)."""
        raise NotImplementedError

    @property
    def drops_patches(self) -> bool:
        """Whether some patches are left out in training."""
        return self.drop is not None

    def reach(self, progress: float) -> None:
        """Leave out as many patches as are due at `progress`, the share (0 to 1) of the run that is done."""
        if isinstance(self.patch_dropout, Mapping):
            self.drop.prob = current(self.patch_dropout, progress)

    def settle(self) -> None:
        """Read `dim` and `grid` off one blank picture; weights that did not take part are trained no more."""
        encoded = retire_unused(self, {"pixels": torch.zeros(1, 3, self.image_size, self.image_size)})
        count, self.dim = encoded.tokens.shape[1:]
        side = isqrt(count)
        self.grid = (side, side) if side * side == count else (1, count)

    def prepare(self, values: Sequence[Any]) -> Prepared:
        """Return `pixels (B, 3, S, S)` uint8 of PIL pictures."""
        return {"pixels": stack([self.transform(picture) for picture in values])}

    def forward(self, prepared: Prepared) -> Encoded:
        """Encode `pixels (B, 3, S, S)`: uint8, or floats from 0 to 1."""
        return self._encoded(self._normalised(prepared))

    def encode_visible(self, prepared: Prepared, keep: Tensor) -> Encoded:
        """Encode the patches `keep (B, K)` of `pixels (B, 3, S, S)` alone: `tokens (B, K, D)` in that order.

        The others are blank from the start, since a stem of convolutions sees beyond the edges of a patch.
        """
        pixels = self._normalised(prepared)
        seen = torch.zeros(len(keep), self.grid[0] * self.grid[1], device=keep.device).scatter_(1, keep, 1.0)
        area = F.interpolate(seen.view(-1, 1, *self.grid), size=pixels.shape[-2:], mode="nearest")
        return self._encoded(pixels * area, keep)

    def _normalised(self, prepared: Prepared) -> Tensor:
        pixels = prepared["pixels"].to(memory_format=torch.channels_last)
        pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        return pixels * self.scale - self.shift

    def _encoded(self, pixels: Tensor, *keep: Tensor) -> Encoded:
        dtype = next(self.parameters()).dtype
        with fast_attention(pixels.device, dtype):
            tokens, pooled = self.features(pixels.to(dtype), *keep)
        return Encoded(tokens, pooled, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))
