"""From PIL pictures to a batch of pixels: resized, then cut or padded to a square."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmexp.errors import RequestError, nearest

Fit = Literal["crop", "pad", "squash"]
Colour = tuple[int, int, int]
# What timm's crop_mode and open_clip's resize_mode are called here.
_CROP_MODES: dict[str, Fit] = {"center": "crop", "border": "pad", "squash": "squash"}
_RESIZE_MODES: dict[str, Fit] = {"shortest": "crop", "longest": "pad", "squash": "squash"}
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")


@dataclass(frozen=True)
class PictureTransform:
    """How a picture becomes a square of `size` pixels a side.

    Args:
        size: the side of the result in pixels.
        fit: crop resizes the shorter side to `scale` and cuts the centre out; pad resizes the longer side to `scale` and adds
            borders; squash resizes both sides to `scale`, whatever the proportions, and cuts the centre out.
        scale: the side in pixels before the centre is cut out: `size` / crop_pct, so that nothing is lost where it is `size`.
        interpolation: that of Pillow, by timm's and torchvision's names.
        fill: the colour of borders, from 0 to 255.
    """

    size: int
    fit: Fit = "crop"
    scale: int = 0
    interpolation: str = "bicubic"
    fill: Colour = (0, 0, 0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", self.scale or self.size)

    @property
    def crop_pct(self) -> float:
        """The share of the resized side that stays."""
        return self.size / self.scale

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Return a picture as size x size pixels in RGB.

        Sizes and places round as those of torchvision's Resize and CenterCrop, and of ResizeKeepRatio and CenterCropOrPad
        of timm and open_clip.
        """
        picture = picture if picture.mode == "RGB" else picture.convert("RGB")
        width, height = self._resized(*picture.size)
        if (width, height) != picture.size:
            picture = picture.resize((width, height), Image.Resampling[self.interpolation.upper()])
        if picture.size == (self.size, self.size):
            return picture
        return self._cut(self._bordered(picture))

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        if self.fit == "squash":
            return self.scale, self.scale
        if self.fit == "crop":
            least = min(width, height)
            return tuple(self.scale if side == least else int(self.scale * side / least) for side in (width, height))  # type: ignore[return-value]
        ratio = max(width, height) / self.scale
        return max(round(width / ratio), 1), max(round(height / ratio), 1)

    def _bordered(self, picture: Image.Image) -> Image.Image:
        """Return a picture that is at least `size` pixels wide and high."""
        width, height = (max(side, self.size) for side in picture.size)
        if (width, height) == picture.size:
            return picture
        bordered = Image.new("RGB", (width, height), self.fill)
        bordered.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
        return bordered

    def _cut(self, picture: Image.Image) -> Image.Image:
        left, top = (round((side - self.size) / 2) for side in picture.size)
        return picture.crop((left, top, left + self.size, top + self.size))


def mean_colour(mean: Sequence[float]) -> Colour:
    """Return the mean (from 0 to 1) of a normalisation as a colour, which it makes nearly zero."""
    red, green, blue = (round(255 * value) for value in mean)
    return red, green, blue


def timm_transform(
    size: int, config: dict[str, Any], fit: Fit | None, trained: bool, stated: Sequence[str]
) -> PictureTransform:
    """Return timm's own transform of evaluations, `timm.data.create_transform`; of a model that is not trained all is seen.

    Args:
        size: the side in pixels.
        config: as of `timm.data.resolve_model_data_config`.
        fit: what was asked for instead of timm's crop_mode; another one cuts nothing off the resized side.
        trained: whether the model has trained weights. Without them the configuration counts only where it is `stated`:
            pictures are padded, and resized by bicubic interpolation.
        stated: the keys of `config` that the user gave.
    """
    own = (
        _named(_CROP_MODES, str(config["crop_mode"]), "settings.crop_mode")
        if trained or "crop_mode" in stated
        else "pad"
    )
    cuts = "crop_pct" in stated or (trained and fit in (None, own))
    scale = int(size / config["crop_pct"]) if cuts else size
    # Where crop_pct is above 1, torchvision's CenterCrop makes black borders.
    fill = (0, 0, 0) if fit is None and own != "pad" else mean_colour(config["mean"])
    interpolation = config["interpolation"] if trained or "interpolation" in stated else "bicubic"
    return PictureTransform(size, fit or own, scale, _interpolation(str(interpolation)), fill)


def open_clip_transform(size: int, config: dict[str, Any], fit: Fit | None, trained: bool) -> PictureTransform:
    """Return open_clip's own `image_transform` of evaluations; of a model that is not trained pictures are padded.

    Args:
        size: the side in pixels.
        config: an open_clip `PreprocessCfg` as a dict.
        fit: what was asked for instead of open_clip's resize_mode.
        trained: whether the model has trained weights.
    """
    own = _named(_RESIZE_MODES, str(config.get("resize_mode") or "shortest"), "resize_mode")
    fill = mean_colour(config["mean"])
    if trained and own == "pad" and fit is None:
        fill = (int(config.get("fill_color") or 0),) * 3
    interpolation = str(config.get("interpolation") or "bicubic")
    # open_clip's `random` is of training.
    interpolation = "bicubic" if interpolation == "random" else _interpolation(interpolation)
    return PictureTransform(size, fit or (own if trained else "pad"), size, interpolation, fill)


def resize_mode(transform: PictureTransform) -> str:
    """Return what open_clip calls the fit of a transform."""
    return {fit: mode for mode, fit in _RESIZE_MODES.items()}[transform.fit]


def crop_mode(transform: PictureTransform) -> str:
    """Return what timm calls the fit of a transform."""
    return {fit: mode for mode, fit in _CROP_MODES.items()}[transform.fit]


def _named(known: dict[str, Fit], name: str, key: str) -> Fit:
    if name not in known:
        raise RequestError(f"{key}: '{name}' is not known.{nearest(name, known)}")
    return known[name]


def _interpolation(name: str) -> str:
    if name not in _INTERPOLATIONS:
        raise RequestError(f"settings.interpolation: '{name}' is not known.{nearest(name, _INTERPOLATIONS)}")
    return name


def stack(pictures: Sequence[Image.Image]) -> Tensor:
    """Return pictures of equal size as uint8 (B, 3, H, W)."""
    return torch.from_numpy(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2).contiguous()
