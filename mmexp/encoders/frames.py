"""Videos: each frame through a picture encoder, and what the frames say together."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from PIL import Image
from torch import nn

from mmexp.attention import masked_mean, pack, places_of, unpack
from mmexp.errors import RequestError
from mmexp.rows import look_up
from mmexp.spacing import middles
from mmexp.transformer_block import Block
from mmexp.types import Encoded, NonNegativeInt, PositiveInt, Prepared


class FrameEncoder(nn.Module):
    """The pooled encodings that `image`, any picture encoder, gives of `frames` frames are the tokens.

    `pool` attention lets them look at each other, with learned positions in time, through `depth` blocks (the late fusion of
    ViViT, arXiv:2103.15691, model 2); mean takes them as they are. Both end in the mean over frames. Of a longer clip
    the frames are evenly spaced; a shorter one has fewer tokens. Raises RequestError for sizes that do not go together.
    """

    modality = "video"

    def __init__(
        self,
        image: Any,
        frames: PositiveInt = 8,
        pool: Literal["attention", "mean"] = "attention",
        depth: NonNegativeInt = 1,
        heads: PositiveInt = 3,
    ):
        super().__init__()
        if image.modality != "image":
            raise RequestError(f"encoder.video.image is an encoder of {image.modality}. Choose one of pictures.")
        if image.dim % heads:
            raise RequestError(f"the picture encoder's width of {image.dim} does not divide into heads={heads}.")
        self.image, self.frames, self.dim, self.image_size = image, frames, image.dim, image.image_size
        mixes = pool == "attention"
        self.blocks = nn.ModuleList(Block(self.dim, heads, depth) for _ in range(depth if mixes else 0))
        self.positions = nn.Parameter(torch.empty(frames, self.dim)) if mixes else None
        self.norm = nn.LayerNorm(self.dim) if mixes else nn.Identity()
        if self.positions is not None:
            nn.init.normal_(self.positions, std=0.02)
        # What mixes the frames is fresh, whatever the picture encoder has learned.
        self.pretrained = bool(getattr(image, "pretrained", False)) and not mixes
        self.adapter_targets = rf"image\.({image.adapter_targets})|blocks\.\d+\.(qkv|proj|fc1|fc2)"

    def reach(self, progress: float) -> None:
        """Have the picture encoder be as it is at `progress` of the run."""
        if hasattr(self.image, "reach"):
            self.image.reach(progress)

    def prepare(self, values: Sequence[Any]) -> Prepared:
        """Return `frames (B, T, 3, S, S)` uint8 and `mask (B, T)` of clips: pictures, or uint8 (T, H, W, 3)."""
        clips = [[clip[place] for place in middles(len(clip), self.frames)] for clip in values]
        pictures = [f if isinstance(f, Image.Image) else Image.fromarray(f) for clip in clips for f in clip]
        pixels = self.image.prepare(pictures)["pixels"]
        mask = torch.arange(self.frames) < torch.tensor([[len(clip)] for clip in clips])
        frames = pixels.new_zeros(*mask.shape, *pixels.shape[1:])
        frames[mask] = pixels
        return {"frames": frames, "mask": mask}

    def forward(self, prepared: Prepared) -> Encoded:
        """Encode `frames (B, T, 3, S, S)` with `mask (B, T)`: a token for each frame."""
        mask = prepared["mask"]
        places = places_of(mask)
        tokens = self.image({"pixels": pack(prepared["frames"], places)}).pooled
        if self.positions is not None:
            tokens = tokens + look_up(self.positions, places % self.frames)
        for block in self.blocks:
            tokens = block(tokens, mask, places)
        tokens = unpack(self.norm(tokens), places, mask)
        return Encoded(tokens, masked_mean(tokens, mask), mask)
