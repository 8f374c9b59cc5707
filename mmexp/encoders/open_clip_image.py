"""The image tower of any open_clip model."""

import re
from typing import Any

import torch
from torch import Tensor

from mmexp.encoders import timm_features
from mmexp.encoders.names import dense_convolutions
from mmexp.encoders.open_clip_towers import tower
from mmexp.encoders.picture_encoder import PictureEncoder
from mmexp.types import Encoded


class OpenClipImage(PictureEncoder):
    """The tower of `name`, without its final projection where it is a transformer or a timm model.

    `pretrained` is a local file or one of open_clip's tags, which is downloaded; None leaves the weights random.
    Raises RequestError for unknown names, tags and files.
    """

    def __init__(self, name: str, pretrained: str | None = None):
        visual = tower(name, pretrained, "visual")
        settings = getattr(visual, "preprocess_cfg", None) or _default_settings()
        size = visual.image_size[0] if isinstance(visual.image_size, tuple | list) else visual.image_size
        super().__init__(size, settings["mean"], settings["std"])
        self.squash = settings.get("resize_mode") == "squash"
        self.pretrained = pretrained is not None or ":" in name
        self.kind = {"TimmModel": "timm", "ModifiedResNet": "resnet"}.get(type(visual).__name__, "vit")
        self.model = visual.trunk if self.kind == "timm" else visual
        self.adapter_targets = self._targets()
        own = {"vit": getattr(visual, "attn_pool", None) is None, "timm": timm_features.sees_parts(self.model)}
        self.sees_parts = own.get(self.kind, False)
        self.own_head = self.kind == "timm" and self._head_fits()
        # In a list, as no part of this encoder's weights: only a teacher looks at it.
        self._beyond = [visual.head] if self.kind == "timm" else []
        self.settle()

    def _targets(self) -> str:
        if self.kind == "timm":
            return timm_features.adapter_targets(self.model)
        if self.kind == "resnet":
            return "|".join(rf"model\.{re.escape(name)}" for name in dense_convolutions(self.model))
        # The fused attention is wrapped as a whole: adapters on its inner layer alone would never be called.
        return r"model\.transformer\.resblocks\.\d+\.(attn|mlp\.c_fc|mlp\.c_proj)"

    @torch.no_grad()
    def _head_fits(self) -> bool:
        blank = torch.zeros(1, 3, self.image_size, self.image_size)
        fits = timm_features.head_fits(self.model.eval(), self.model.forward_features(blank))
        self.model.train()
        return fits

    @property
    def projects(self) -> bool:
        """Whether `project` is open_clip's own way into the common space."""
        return self.own_head if self.kind == "timm" else getattr(self.model, "pool_type", "none") != "none"

    def project(self, encoded: Encoded) -> Tensor:
        """Return (B, D) in open_clip's common space, of its own encoding."""
        if self.kind == "timm":
            head = self._beyond[0].to(encoded.pooled.device)
            return head(self.model.get_classifier()(encoded.pooled))
        return encoded.pooled if self.model.proj is None else encoded.pooled @ self.model.proj

    def features(self, pixels: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return patch tokens or map cells (B, N, D), and the tower's pooling or their mean (B, D)."""
        if self.kind == "vit":
            embedded = self.model._embeds(pixels)
            embedded = embedded if keep is None else timm_features.pick(embedded, keep, prefix=1)
            pooled, tokens = self.model._pool(self.model.transformer(embedded))
            return tokens, pooled if pooled.ndim == 2 else tokens.mean(1)
        if self.kind == "timm":
            if keep is None:
                features = self.model.forward_features(pixels)
            else:
                features = timm_features.visible_features(self.model, pixels, keep)
            tokens = timm_features.as_tokens(self.model, features)
            return tokens, self.model.forward_head(features, pre_logits=True) if self.own_head else tokens.mean(1)
        for part in (self.model.stem, self.model.layer1, self.model.layer2, self.model.layer3, self.model.layer4):
            pixels = part(pixels)
        tokens = pixels.flatten(2).transpose(1, 2)
        return tokens, tokens.mean(1)


def _default_settings() -> dict[str, Any]:
    from dataclasses import asdict

    from open_clip.transform import PreprocessCfg

    return asdict(PreprocessCfg())
