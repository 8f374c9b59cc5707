"""The picture tower of a model of the transformers library: CLIP, SigLIP, and vision transformers alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mmexp.encoders.hub import from_hub, in_folder
from mmexp.encoders.huggingface_dual import space_of
from mmexp.encoders.names import in_one_line
from mmexp.encoders.packages import located
from mmexp.encoders.picture_encoder import PictureEncoder
from mmexp.encoders.pictures import huggingface_transform
from mmexp.encoders.transformers_weights import part_report, pretrained_model
from mmexp.errors import RequestError
from mmexp.shapes import PretrainedSpace
from mmexp.state_dicts import LoadReport, used_names


class HuggingFaceImage(PictureEncoder):
    """The picture tower of the model `name`, without its final projection, pooled as the model pools.

    `pretrained=false` takes its architecture alone. Pictures are prepared as the model's own image processor states; `fit`
    replaces how it resizes, and without weights they are padded. A local folder, or `package:PACKAGE/FOLDER`, is read without
    the network. Raises RequestError where there is no such model, and for one that does not encode a picture as patches.
    """

    # Not the pooling head of SigLIP, whose fused attention never calls its inner layer.
    adapter_targets = (
        r"model\..*layers?\.\d+\..*"
        r"(q_proj|k_proj|v_proj|out_proj|o_proj|query|key|value|dense|fc1|fc2|up_proj|down_proj)"
    )

    def __init__(self, name: str, pretrained: bool = True, fit: Literal["crop", "pad", "squash"] | None = None):
        processor, model, report, space = _load(name, pretrained)
        size = getattr(model.config, "image_size", None)
        patch = getattr(model.config, "patch_size", None)
        if not isinstance(size, int) or not isinstance(patch, int):
            raise RequestError(
                f"'{name}' ({model.config.model_type}) does not encode pictures of one size as patches. Choose a CLIP, a SigLIP "
                "or a vision transformer, or encoder/image=timm."
            )
        stated = processor.to_dict()
        mean, std = (stated.get(key) or [0.5] * 3 for key in ("image_mean", "image_std"))
        super().__init__(huggingface_transform(size, stated, fit, pretrained), mean, std)
        self.model, self.pretrained = model, pretrained
        self.source, self._space = name, space
        self.patches = (size // patch) ** 2
        with in_one_line(f"'{name}' cannot encode a picture of {size} pixels"):
            self.settle()
        self.weights_report = str(report or "")
        if report:
            report.require(f"'{name}'", used_names(self.model))

    @property
    def pretrained_space(self) -> PretrainedSpace | None:
        """The common space of a CLIP or SigLIP, None where its weights are random."""
        return self._space and replace(self._space, source=self.source)

    def features(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return patch tokens (B, N, D), and the model's own pooling or the mean of the patches (B, D)."""
        out = self.model(pixel_values=pixels)
        tokens = out.last_hidden_state[:, -self.patches :]
        pooled = getattr(out, "pooler_output", None)
        return tokens, tokens.mean(1) if pooled is None else pooled


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
