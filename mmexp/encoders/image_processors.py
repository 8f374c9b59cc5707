"""What an image processor of the transformers library states: the size, how a picture is resized and cut, the normalisation."""

from typing import Any

from PIL import Image

from mmexp.encoders.pictures import Fit, PictureTransform, mean_colour
from mmexp.errors import RequestError

_EDGES = ("shortest_edge", "height", "longest_edge")


def processor_size(config: dict[str, Any], name: str) -> int | None:
    """Return the side in pixels of the squares that an image processor makes, None where it states none.

    Args:
        config: the processor as a dict. Its `crop_size` counts where it cuts the centre out (`do_center_crop`), else its `size`.
        name: the name of the model, for the error.

    Raises:
        RequestError: it makes no squares.
    """
    stated = _sides(config.get("crop_size") if config.get("do_center_crop") else None) or _sides(config.get("size"))
    if stated.get("height") != stated.get("width"):
        raise RequestError(
            f"the image processor of '{name}' makes pictures of {stated['height']} x {stated['width']} pixels, and pictures are "
            "squares here. Choose another model, or encoder/image=timm."
        )
    return next((int(stated[edge]) for edge in _EDGES if stated.get(edge)), None)


def _sides(size: dict[str, int] | int | None) -> dict[str, int]:
    """Return a size that a processor states as sides; one number is that of a square."""
    return {"height": size, "width": size} if isinstance(size, int) else size or {}


def normalisation(config: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of pixels from 0 to 1 by which an image processor normalises, 0 and 1 if it does not.

    Args:
        config: the processor as a dict. `image_mean` and `image_std` are 0.5 where it states none.
    """
    if config.get("do_normalize") is False:
        return [0.0] * 3, [1.0] * 3
    stated = [config.get(key) or 0.5 for key in ("image_mean", "image_std")]
    mean, std = ([value] * 3 if isinstance(value, float) else list(value) for value in stated)
    return mean, std


def huggingface_transform(
    size: int, config: dict[str, Any], mean: list[float], fit: Fit | None, trained: bool
) -> PictureTransform:
    """Return what an image processor of transformers states; of a model that is not trained pictures are padded.

    Args:
        size: the side in pixels.
        config: the processor as a dict: `size` is one of `shortest_edge` (crop), or of `height` and `width` (squash).
        mean: the mean (3) of the normalisation, the colour of borders.
        fit: what was asked for instead; another one cuts nothing off the resized side.
        trained: whether the model has trained weights.
    """
    stated = _sides(config.get("size"))
    own: Fit = "crop" if "shortest_edge" in stated else "squash"
    side = stated.get("shortest_edge") or stated.get("height") or size
    scale = max(size, int(side)) if trained and fit in (None, own) else size
    resample = config.get("resample")
    interpolation = Image.Resampling(Image.Resampling.BICUBIC if resample is None else resample).name.lower()
    return PictureTransform(size, fit or (own if trained else "pad"), scale, interpolation, mean_colour(mean))
