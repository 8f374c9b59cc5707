"""Any image model of timm, by name."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mmexp.curriculum import Curriculum
from mmexp.encoders import timm_features
from mmexp.encoders.hub import from_hub
from mmexp.encoders.names import in_one_line, nearest_of_many
from mmexp.encoders.packages import SCHEME, load_in_order, located
from mmexp.encoders.picture_encoder import PictureEncoder
from mmexp.encoders.pictures import timm_transform
from mmexp.errors import RequestError
from mmexp.lean import load
from mmexp.state_dicts import LoadReport, recorded, used_names, without_prefix
from mmexp.types import Fraction, PositiveInt


class TimmImage(PictureEncoder):
    """The model `name` with `options` for its constructor, fed with pictures of `image_size` pixels a side.

    `weights` is a local file (safetensors or pth) or `package:PACKAGE/PATH`, whose tensors are taken in their order;
    `pretrained` downloads those that timm knows. Pictures are prepared as timm's `create_transform` does for these; without
    either the weights are random and pictures are padded. `settings` replace timm's own of that (mean, std, crop_pct,
    crop_mode, interpolation), and `fit` its crop_mode.
    `stem` are the channels of 3x3 convolutions that stand for the patch projection of a vision transformer
    (arXiv:2106.14881): where they grow, the stride is 2. `positions` are added to its patches (`learned`, `sine`, `sincos2d`)
    or told to its attention, of rows and columns (`relative`, `rotary`); None are the model's own. `patch_dropout` is the
    share of patches left out in training, which may change in the course of a run. Raises RequestError for unknown names,
    options and files.
    """

    def __init__(
        self,
        name: str,
        image_size: PositiveInt | None = None,
        pretrained: bool = False,
        weights: str | None = None,
        stem: Sequence[PositiveInt] = (),
        options: dict[str, Any] | None = None,
        positions: Literal["learned", "sine", "sincos2d", "relative", "rotary"] | None = None,
        patch_dropout: Curriculum[Fraction] = 0.0,
        settings: dict[str, Any] | None = None,
        fit: Literal["crop", "pad", "squash"] | None = None,
    ):
        load("timm", without=("wandb",))
        arguments = {**(options or {}), **_convolutional_stem(stem)}
        model, report = create(name, image_size, pretrained, weights, arguments, settings or {})
        if positions:
            from mmexp.encoders.timm_positions import repositioned

            model = repositioned(
                model,
                positions,
                pretrained or weights is not None,
                lambda more: create(name, image_size, False, None, {**arguments, **more}, settings or {})[0],
            )
        from timm.data import resolve_model_data_config

        with in_one_line(f"settings of '{name}', {settings}"):
            data = resolve_model_data_config(model)
            size = image_size or data["input_size"][-1]
            trained = pretrained or weights is not None
            super().__init__(timm_transform(size, data, fit, trained, list(settings or {})), data["mean"], data["std"])
            self.pretrained = trained
        self.model = model
        self.drop, self.patch_dropout = timm_features.take_patch_drop(model, patch_dropout), patch_dropout
        self.adapter_targets = timm_features.adapter_targets(model)
        self.sees_parts = timm_features.is_plain_vit(model)
        with in_one_line(f"'{name}' with {options or {}} cannot encode a picture of {size} pixels"):
            self._try(size)
        self.weights_report = str(report or "")
        if report:
            report.require(f"'{weights}'" if weights else f"timm's '{name}'", used_names(self.model))

    def _try(self, size: int) -> None:
        with torch.no_grad():
            blank = self.eval()._features(torch.zeros(1, 3, size, size))
            self.own_head = timm_features.head_fits(self.model, blank)
        # Convolutions are faster so, on CPU and GPU alike.
        self.train().to(memory_format=torch.channels_last)
        self.settle()

    def features(self, pixels: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return patch tokens or map cells (B, N, D), and the model's own pooling or their mean (B, D)."""
        features = self._features(pixels, keep)
        tokens = timm_features.as_tokens(self.model, features)
        pooled = self.model.forward_head(features, pre_logits=True) if self.own_head else tokens.mean(1)
        return tokens, pooled

    def _features(self, pixels: Tensor, keep: Tensor | None = None) -> Tensor:
        if keep is None and self.drop is None and not hasattr(self.model, "places"):
            return self.model.forward_features(pixels)
        return timm_features.vit_features(self.model, pixels, keep, self.drop)


def _convolutional_stem(channels: Sequence[int]) -> dict[str, Any]:
    if not channels:
        return {}
    from timm.layers import HybridEmbed
    from timm.models.vision_transformer_hybrid import ConvStem

    def embed(img_size: int, in_chans: int, embed_dim: int, **_: Any) -> HybridEmbed:
        strides = tuple(1 if own == before else 2 for before, own in zip((in_chans, *channels), channels, strict=False))
        convolutions = ConvStem(in_chans, len(channels), tuple(channels), stride=strides)
        return HybridEmbed(convolutions, img_size, patch_size=1, in_chans=in_chans, embed_dim=embed_dim)

    return {"embed_layer": embed}


def create(
    name: str,
    size: int | None,
    pretrained: bool,
    weights: str | None,
    options: dict[str, Any],
    settings: dict[str, Any] | None = None,
) -> tuple[Any, LoadReport | None]:
    """Return timm's model `name` without its classifier, and what was found of its weights; None without weights.

    The arguments are those of `TimmImage`. Raises RequestError.
    """
    import timm

    if ":" not in name and not timm.is_model(name.partition(".")[0]):
        hint = nearest_of_many(name, timm.list_models(), "timm.list_models()")
        raise RequestError(f"timm has no model '{name}'.{hint}")
    carried = weights is not None and weights.startswith(SCHEME)
    weights = located(weights) if weights else None
    if weights is not None and not Path(weights).is_file():
        raise RequestError(f"weights: there is no file '{weights}'.")
    known = timm.get_pretrained_cfg(name) if ":" not in name else None
    # Models that take any size have no such argument.
    arguments: dict[str, Any] = {"img_size": size} if size and (known is None or known.fixed_input_size) else {}
    arguments |= options
    make = partial(timm.create_model, name, num_classes=0, **arguments)
    how = f" with {options} (options=null: as it was trained)" if options else ""
    built = f"timm could not build '{name}' with {arguments}"
    # A file that is named goes before what timm would download.
    if weights is None and (pretrained or ":" in name):
        with from_hub(f"timm could not load '{name}'{how}"), recorded(f"timm's '{name}'{how}") as reports:
            model = make(pretrained=pretrained, pretrained_cfg_overlay=settings or None)
        return model, reports[-1] if reports else None
    with in_one_line(built):
        if weights is None or carried:
            model = make(pretrained_cfg_overlay=settings or None)
            return model, load_in_order(model, weights) if weights else None
        return _from_file(make, weights, settings or {})


def _from_file(make: Any, weights: str, settings: dict[str, Any]) -> tuple[Any, LoadReport]:
    """Return the model with the weights of a file, as timm loads them, one common prefix of their names removed."""
    from timm.models import load_state_dict

    if weights.endswith(".npz"):  # of JAX: names of their own, of which the model's class knows how they are loaded
        overlay = {**settings, "file": weights, "custom_load": True}
        model = make(pretrained=True, pretrained_cfg_overlay=overlay)
        return model, LoadReport(len(model.state_dict()))
    with torch.random.fork_rng(devices=[]):  # what is drawn afterwards is what would be drawn without this
        expected = make(pretrained_cfg_overlay=settings or None).state_dict()
    state, prefix = without_prefix(load_state_dict(weights), expected)
    with recorded(f"'{weights}'") as reports:
        model = make(pretrained=True, pretrained_cfg_overlay={**settings, "state_dict": state})
    return model, replace(reports[-1], prefix=prefix)
