"""The common space of a dual encoder of the transformers library (CLIP, SigLIP and their kin), as it is, to be measured."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.encoders.hub import from_hub, in_folder
from mmexp.encoders.text_models import longest_text
from mmexp.encoders.transformers_weights import pretrained_model
from mmexp.errors import RequestError
from mmexp.types import Encoded, Prepared


class _Tower(nn.Module):
    """One side of a model: what its processor prepares to what its projection says, `pooled (B, D)`, without tokens."""

    pretrained = True

    def __init__(self, model: Any, processor: Any, modality: str):
        super().__init__()
        self.model, self.processor, self.modality = model, processor, modality
        self.pictures: Any = getattr(processor, "image_processor", processor)
        self.image_size: int = model.config.vision_config.image_size
        if modality == "text":
            self.context = longest_text(model.text_model, processor.tokenizer)

    def prepare(self, values: Sequence[Any]) -> Prepared:
        """Return what the model's own processor makes: `pixels (B, 3, S, S)` uint8, or `ids` and `mask (B, N)`."""
        if self.modality == "image":
            sized = self.pictures(list(values), do_rescale=False, do_normalize=False, return_tensors="pt")
            return {"pixels": sized["pixel_values"].round().clamp(0, 255).to(torch.uint8)}
        # Those of SigLIP were trained on texts that fill the context.
        padding = "max_length" if "siglip" in self.model.config.model_type else True
        limits = {"truncation": True, "max_length": self.context}
        told = self.processor(text=list(values), padding=padding, return_tensors="pt", **limits)
        mask = told.get("attention_mask", torch.ones_like(told["input_ids"]))
        return {"ids": told["input_ids"], "mask": mask.bool()}

    def forward(self, prepared: Prepared) -> Encoded:
        """Encode `pixels (B, 3, S, S)` uint8, or `ids` and `mask (B, N)`."""
        if self.modality == "image":
            said = self.model.get_image_features(pixel_values=self._normalised(prepared["pixels"]))
        else:
            said = self.model.get_text_features(input_ids=prepared["ids"], attention_mask=prepared["mask"].long())
        pooled = said if isinstance(said, Tensor) else said.pooler_output
        blank = pooled.new_empty(len(pooled), 0, pooled.shape[1])
        return Encoded(blank, pooled, torch.empty(blank.shape[:2], dtype=torch.bool))

    def _normalised(self, pixels: Tensor) -> Tensor:
        mean, deviation = (
            torch.tensor(told, device=pixels.device).view(3, 1, 1)
            for told in (self.pictures.image_mean, self.pictures.image_std)
        )
        return (pixels.float() / 255 - mean) / deviation


class HuggingFaceSpace(nn.Module):
    """Encodings of these towers are projected already."""

    def embed(self, encoded: dict[str, Encoded]) -> dict[str, Tensor]:
        """Return unit vectors (B, D) of every modality that is there."""
        return {name: F.normalize(one.pooled.float(), dim=-1) for name, one in encoded.items()}


def huggingface_model(name: str, modalities: Collection[str]) -> tuple[dict[str, nn.Module], HuggingFaceSpace]:
    """Return the towers for `modalities` of the model in a folder, or by its name on the hub, and their space.

    Raises RequestError where there is none, or it is no dual encoder of pictures and texts.
    """
    from transformers import AutoModel, AutoProcessor

    wrong = f"'{name}' is neither a folder with a model and its processor nor to be had from the hub"
    with in_folder(wrong) if Path(name).is_dir() else from_hub(wrong):
        model, report = pretrained_model(AutoModel, name, dtype=torch.float32)
        processor = AutoProcessor.from_pretrained(name)
    if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
        raise RequestError(f"hf:{name}: this {model.config.model_type} has no common space of pictures and texts.")
    report.require(f"hf:{name}")
    return {one: _Tower(model, processor, one) for one in ("image", "text") if one in modalities}, HuggingFaceSpace()
