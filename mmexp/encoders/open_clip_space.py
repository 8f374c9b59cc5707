"""The common space of an open_clip model: its towers, and its own projections as a head on them."""

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.encoders.open_clip_image import OpenClipImage
from mmexp.encoders.open_clip_text import OpenClipText
from mmexp.errors import RequestError
from mmexp.types import Encoded


class OpenClipSpace(nn.Module):
    """Projects encodings of `encoders` as open_clip's `encode_image` and `encode_text` do."""

    def __init__(self, encoders: dict[str, Any]):
        super().__init__()
        # A list holds no submodules: the towers are the model's.
        self.towers = [encoders]

    def embed(self, encoded: dict[str, Encoded]) -> dict[str, Tensor]:
        """Return unit vectors (B, D) of every modality that is there."""
        return {name: F.normalize(self.towers[0][name].project(e).float(), dim=-1) for name, e in encoded.items()}


def open_clip_model(named: str, modalities: Collection[str]) -> tuple[dict[str, nn.Module], OpenClipSpace]:
    """Return the towers for `modalities` of `NAME/TAG`, `NAME@FILE`, `local-dir:FOLDER` or `hf-hub:OWNER/NAME`, and their space.

    Raises RequestError where no weights are named, or they are not there, and for a tower without a projection of its
    own pooling.
    """
    name, pretrained = weights_named(named)
    makes = {"image": OpenClipImage, "text": OpenClipText}
    encoders = {modality: make(name, pretrained) for modality, make in makes.items() if modality in modalities}
    for modality, encoder in encoders.items():
        if not encoder.pretrained:
            raise RequestError(f"open_clip:{named}: there are no weights in this folder.")
        if not encoder.projects:
            raise RequestError(
                f"teacher=open_clip:{named}: its {modality} tower does not project what it pools. Choose another."
            )
    return encoders, OpenClipSpace(encoders)


def weights_named(named: str) -> tuple[str, str | None]:
    """Return model and weights: a file behind `@`, a tag behind `/`; a name with `:` brings its own."""
    if ":" in named:
        return named, None
    for mark in ("@", "/"):
        name, found, weights = named.partition(mark)
        if found:
            return name, weights
    raise RequestError(
        f"teacher=open_clip:{named} names no weights. Put open_clip:{named}/TAG, open_clip:{named}@FILE or "
        "open_clip:local-dir:FOLDER."
    )
