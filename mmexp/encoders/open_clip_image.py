"""The image tower of any open_clip model."""

import re
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.attention import fasten
from mmexp.curriculum import Curriculum
from mmexp.encoders import timm_features
from mmexp.encoders.names import dense_convolutions
from mmexp.encoders.open_clip_blocks import can_spare, pooled_alone
from mmexp.encoders.open_clip_towers import no_weights, source_of, tower
from mmexp.encoders.picture_encoder import PictureEncoder
from mmexp.encoders.pictures import open_clip_transform
from mmexp.encoders.projections import as_module, width_of
from mmexp.errors import RequestError
from mmexp.shapes import PretrainedSpace
from mmexp.types import Encoded, Fraction, PositiveInt


class OpenClipImage(PictureEncoder):
    """The tower of `name` without its final projection, pooled as open_clip pools.

    `pretrained` is a local file or one of open_clip's tags, which is downloaded; None leaves the weights random.
    `patch_dropout` is the share of patches left out in training, which may change in the course of a run, whatever the
    model's own configuration says. `image_size` is the side of pictures in pixels, None the model's own: open_clip resamples
    the positions. Pictures are prepared as open_clip's `image_transform` does; `fit` replaces its resize_mode, and without
    weights they are padded.
    Raises RequestError for unknown names, tags and files, and for a tower that cannot leave patches out.
    """

    def __init__(
        self,
        name: str,
        pretrained: str | None = None,
        patch_dropout: Curriculum[Fraction] = 0.0,
        image_size: PositiveInt | None = None,
        fit: Literal["crop", "pad", "squash"] | None = None,
    ):
        visual, report = tower(name, pretrained, "visual", image_size=image_size)
        self.source, self.logits = source_of(name, pretrained), getattr(visual, "logits", None)
        settings = getattr(visual, "preprocess_cfg", None) or _default_settings()
        size = visual.image_size[0] if isinstance(visual.image_size, tuple | list) else visual.image_size
        transform = open_clip_transform(size, settings, fit, report is not None)
        super().__init__(transform, settings["mean"], settings["std"])
        self.pretrained, self.weights_report = report is not None, str(report or no_weights(name))
        self.kind = {"TimmModel": "timm", "ModifiedResNet": "resnet"}.get(type(visual).__name__, "vit")
        self.model = visual.trunk if self.kind == "timm" else visual
        fasten(self.model)
        self.adapter_targets = self._targets()
        self.drop, self.patch_dropout = self._patch_drop(name, patch_dropout), patch_dropout
        own = {"vit": getattr(visual, "attn_pool", None) is None, "timm": timm_features.is_plain_vit(self.model)}
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

    def _patch_drop(self, name: str, rate: Curriculum[float]) -> nn.Module | None:
        """Take the dropout of patches out of the model: what encodes visible patches drops none."""
        if self.kind == "timm":
            return timm_features.take_patch_drop(self.model, rate)
        if self.kind == "resnet" and rate:
            raise RequestError(f"patch_dropout: '{name}' is a ResNet, which cannot leave patches out. Set it to 0.")
        self.model.patch_dropout = nn.Identity()
        return timm_features.patch_dropout(rate, prefix=1) if rate else None

    def _transformed(self, embedded: Tensor) -> Tensor:
        """Return what the transformer makes of the tokens (B, 1 + N, D), or (B, 1, D) of the class token alone."""
        transformer = self.model.transformer
        alone = not self.gives_tokens and self.model.attn_pool is None and self.model.pool_type == "tok"
        if not (alone and can_spare(transformer)):
            return transformer(embedded)
        return pooled_alone(transformer, embedded, torch.zeros(len(embedded), dtype=torch.long, device=embedded.device))

    @torch.no_grad()
    def _head_fits(self) -> bool:
        blank = torch.zeros(1, 3, self.image_size, self.image_size)
        fits = timm_features.head_fits(self.model.eval(), self.model.forward_features(blank))
        self.model.train()
        return fits

    @property
    def projects(self) -> bool:
        """Whether `project` is open_clip's own way into the common space."""
        if self.kind == "resnet":
            return True
        return self.own_head if self.kind == "timm" else getattr(self.model, "pool_type", "none") != "none"

    def project(self, encoded: Encoded) -> Tensor:
        """Return (B, D) in open_clip's common space, of its own encoding."""
        if self.kind == "timm":
            head = self._beyond[0].to(encoded.pooled.device)
            return head(self.model.get_classifier()(encoded.pooled))
        if self.kind == "resnet":
            return self.model.attnpool.c_proj(encoded.pooled)
        return encoded.pooled if self.model.proj is None else encoded.pooled @ self.model.proj

    @property
    def pretrained_space(self) -> PretrainedSpace | None:
        """The common space of the model, None where its weights are random or it does not project what is pooled here."""
        if not (self.pretrained and self.projects and self.logits):
            return None
        projection = as_module(self._projection())
        return PretrainedSpace(self.source, projection, width_of(projection, self.dim), self.logits[0], self.logits[1])

    def _projection(self) -> Tensor | nn.Module | None:
        if self.kind == "resnet":
            return self.model.attnpool.c_proj
        return nn.Sequential(self.model.get_classifier(), *self._beyond) if self._beyond else self.model.proj

    def features(self, pixels: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return patch tokens or map cells (B, N, D), and the tower's pooling or their mean (B, D)."""
        if self.kind == "vit":
            embedded = self.model._embeds(pixels)
            if keep is not None:
                embedded = timm_features.pick(embedded, keep, prefix=1)
            elif self.drop is not None:
                embedded, _ = self.drop(embedded)
            pooled, tokens = self.model._pool(self._transformed(embedded))
            return tokens, pooled if pooled.ndim == 2 else tokens.mean(1)
        if self.kind == "timm":
            if keep is None and self.drop is None:
                features = self.model.forward_features(pixels)
            else:
                features = timm_features.vit_features(self.model, pixels, keep, self.drop)
            tokens = timm_features.as_tokens(self.model, features)
            return tokens, self.model.forward_head(features, pre_logits=True) if self.own_head else tokens.mean(1)
        for part in (self.model.stem, self.model.layer1, self.model.layer2, self.model.layer3, self.model.layer4):
            pixels = part(pixels)
        tokens = pixels.flatten(2).transpose(1, 2)
        return tokens, _attention_pooled(self.model.attnpool, tokens)


def _attention_pooled(pool: Any, tokens: Tensor) -> Tensor:
    """Return what the attention pool of CLIP's ResNets makes of map cells (B, N, D), before its output projection (B, D)."""
    tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1) + pool.positional_embedding.to(tokens.dtype)
    query, key, value = (
        layer(part).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)
        for layer, part in ((pool.q_proj, tokens[:, :1]), (pool.k_proj, tokens), (pool.v_proj, tokens))
    )
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(1)


def _default_settings() -> dict[str, Any]:
    from dataclasses import asdict

    from open_clip.transform import PreprocessCfg

    return asdict(PreprocessCfg())
