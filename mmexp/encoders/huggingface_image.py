"""The picture tower of a model of the transformers library: CLIP, SigLIP, and vision transformers alone."""

from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mmexp.encoders.hub import from_hub, in_folder
from mmexp.encoders.huggingface_dual import space_of
from mmexp.encoders.image_processors import huggingface_transform, normalisation, processor_size
from mmexp.encoders.names import in_one_line
from mmexp.encoders.packages import located
from mmexp.encoders.picture_encoder import PictureEncoder
from mmexp.encoders.transformers_weights import part_report, pretrained_model
from mmexp.errors import RequestError
from mmexp.shapes import PretrainedSpace
from mmexp.state_dicts import LoadReport, used_names

_CLASS_TOKENS = 2  # at most: one of the class, one of distillation (DeiT)


class HuggingFaceImage(PictureEncoder):
    """The picture tower of the model `name`, without its final projection, pooled as the model pools.

    `pretrained=false` takes its architecture alone. Pictures are prepared as the model's own image processor states, to its
    size: positions are interpolated where that differs from the model's. `fit` replaces how it resizes, and without weights
    pictures are padded. A model whose weights lack its pooler is pooled by the class token, and one without any pooling by the
    mean of the patches. Of a masked autoencoder (ViT-MAE) all patches are seen. A local folder, or `package:PACKAGE/FOLDER`, is
    read without the network. Raises RequestError where there is no such model, and for one that does not encode a picture as
    patches, the same ones each time.
    """

    # Not the pooling head of SigLIP, whose fused attention never calls its inner layer.
    adapter_targets = (
        r"model\..*layers?\.\d+\..*"
        r"(q_proj|k_proj|v_proj|out_proj|o_proj|query|key|value|dense|fc1|fc2|up_proj|down_proj)"
    )

    def __init__(self, name: str, pretrained: bool = True, fit: Literal["crop", "pad", "squash"] | None = None):
        processor, model, report, space = _load(name, pretrained)
        stated = processor.to_dict()
        own = getattr(model.config, "image_size", None)
        size = processor_size(stated, name) or own
        patch = getattr(model.config, "patch_size", None)
        if not isinstance(size, int) or not isinstance(patch, int):
            raise RequestError(
                f"'{name}' ({model.config.model_type}) does not encode pictures of one size as patches. Choose a CLIP, a SigLIP "
                "or a vision transformer, or encoder/image=timm."
            )
        mean, std = normalisation(stated)
        super().__init__(huggingface_transform(size, stated, mean, fit, pretrained), mean, std)
        self.model, self.pretrained = model, pretrained
        self.source, self._space = name, space
        self.patches = (size // patch) ** 2
        takes = signature(model.forward).parameters
        self.interpolates = size != own and "interpolate_pos_encoding" in takes
        self.masks = "noise" in takes and hasattr(model.config, "mask_ratio")
        if self.masks:
            model.config.mask_ratio = 0.0
        lacks_pooler = any(lacking.startswith("pooler.") for lacking in (report.missing if report else ()))
        if lacks_pooler:
            model.pooler = None
        self.pools_class_token = lacks_pooler
        with in_one_line(f"'{name}' cannot encode a picture of {size} pixels"):
            self.settle()
        self._check_patches()
        self.weights_report = f"{report or ''}{'; pooled by the class token' if lacks_pooler else ''}"
        if report:
            report.require(f"'{name}'", used_names(self.model))

    @property
    def pretrained_space(self) -> PretrainedSpace | None:
        """The common space of a CLIP or SigLIP, None where its weights are random."""
        return self._space and replace(self._space, source=self.source)

    def features(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return patch tokens (B, N, D), and the model's own pooling or the mean of the patches (B, D)."""
        out = self._output(pixels)
        tokens = out.last_hidden_state[:, -self.patches :]
        pooled = out.last_hidden_state[:, 0] if self.pools_class_token else getattr(out, "pooler_output", None)
        return tokens, tokens.mean(1) if pooled is None else pooled

    def _output(self, pixels: Tensor) -> Any:
        options: dict[str, Any] = {"interpolate_pos_encoding": True} if self.interpolates else {}
        if self.masks:
            # Patches are sorted by their noise: these stay where they are.
            options["noise"] = torch.arange(self.patches, device=pixels.device).float().expand(len(pixels), -1)
        return self.model(pixel_values=pixels, **options)

    @torch.no_grad()
    def _check_patches(self) -> None:
        """Raise RequestError for a model that drops or shuffles patches at random, or has other tokens behind them."""
        training, pixels = self.training, torch.linspace(-1, 1, 3 * self.image_size**2)
        self.eval()
        first, second = (self._output(pixels.view(1, 3, self.image_size, -1)).last_hidden_state for _ in range(2))
        self.train(training)
        kind = self.model.config.model_type
        if first.shape != second.shape or not torch.allclose(first, second, atol=1e-4):
            raise RequestError(
                f"'{self.source}' ({kind}) drops or shuffles patches at random, in evaluation too: its encodings differ from "
                "call to call. Choose another model."
            )
        before = first.shape[1] - self.patches
        if before > _CLASS_TOKENS + getattr(self.model.config, "num_register_tokens", 0):
            raise RequestError(
                f"'{self.source}' ({kind}) gives {first.shape[1]} tokens of {self.patches} patches, so that it is unknown which "
                "are the patches. Choose a CLIP, a SigLIP or a vision transformer, or encoder/image=timm."
            )


def _load(name: str, pretrained: bool) -> tuple[Any, Any, LoadReport | None, PretrainedSpace | None]:
    """Return image processor and picture tower, what was found of the weights, and the common space of both towers."""
    from transformers import AutoConfig, AutoImageProcessor, AutoModel

    name = located(name)
    wrong = f"'{name}' is neither a folder with a model and its image processor nor to be had from the hub"
    with in_folder(wrong) if Path(name).is_dir() else from_hub(wrong):
        processor, report = AutoImageProcessor.from_pretrained(name), None
        if pretrained:
            whole, report = pretrained_model(AutoModel, name, dtype=torch.float32)
        else:
            whole = AutoModel.from_config(AutoConfig.from_pretrained(name))
    model = getattr(whole, "vision_model", whole)
    return processor, model, report and part_report(whole, model, report), space_of(whole, report, "image")
