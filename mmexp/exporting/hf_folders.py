"""A run's towers in the form of the transformers library: a folder a tower, with its processor, that AutoModel loads.

A text folder states its pooling and the most tokens of a text as sentence-transformers does. The linear map into the common
space is in `heads.safetensors`: `vectors = normalize(pooled @ TOWER.weight.T + TOWER.bias)`, the bias where there is one.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmexp.encoders.huggingface_image import HuggingFaceImage
from mmexp.encoders.huggingface_text import HuggingFaceText
from mmexp.encoders.pictures import crop_mode
from mmexp.encoders.text_models import pool, stated_pooling
from mmexp.encoders.timm_image import TimmImage
from mmexp.errors import RequestError
from mmexp.exporting.heads import linear_heads, projected
from mmexp.exporting.subject import Subject
from mmexp.exporting.text_folders import read_texts, save_tokenizer, state_pooling
from mmexp.exporting.towers import Tower, farthest, values_of

HEADS = "heads.safetensors"
TOLERANCE = 1e-5


def write(subject: Subject, folder: Path) -> None:
    """Write a folder for each tower, and the heads. Raises RequestError for a tower that such a folder cannot hold."""
    from safetensors.torch import save_file

    for name, tower in subject.towers.items():
        encoder = tower.encoder
        if isinstance(encoder, HuggingFaceText) and encoder.trims:
            encoder.model.save_pretrained(folder / name)
            save_tokenizer(encoder, folder / name)
            state_pooling(encoder, folder / name)
        elif isinstance(encoder, TimmImage):
            _write_timm(subject.config["encoder"][name], encoder, folder / name)
        else:
            raise RequestError(
                f"--format hf: {_obstacle(name, encoder)}. Choose --format onnx or torch, which take any encoder."
            )
    save_file(linear_heads(subject, "hf"), folder / HEADS)


def _obstacle(name: str, encoder: Any) -> str:
    """Return why a folder of transformers cannot hold an encoder."""
    if isinstance(encoder, HuggingFaceText):
        return f"the texts of {name} fill the context, without a mask (SigLIP), which a tokenizer and a pooling cannot state"
    if isinstance(encoder, HuggingFaceImage):
        return f"pictures of {name} are resized by Pillow, and transformers' processors resize by torchvision"
    return f"{name} ({type(encoder).__name__}) is no model of transformers or timm"


def _write_timm(node: Any, encoder: TimmImage, folder: Path) -> None:
    """Write a model of timm as transformers wraps it."""
    from transformers import TimmWrapperConfig, TimmWrapperModel

    if node.get("stem") or node.get("positions") not in (None, "learned") or not encoder.own_head:
        raise RequestError(
            "--format hf: timm alone cannot build this picture tower (stem, positions or pooling of ours). Choose --format "
            "onnx or torch."
        )
    size = encoder.image_size
    arguments = {"img_size": size} if hasattr(encoder.model, "pos_embed") else {}
    about = {
        "input_size": [3, size, size],
        "mean": list(encoder.mean),
        "std": list(encoder.std),
        "interpolation": encoder.transform.interpolation,
        "crop_pct": encoder.transform.crop_pct,
        "crop_mode": crop_mode(encoder.transform),
    }
    config: Any = TimmWrapperConfig(architecture=node["name"], model_args={**arguments, **(node.get("options") or {})})
    config.pretrained_cfg = about
    wrapped: Any = TimmWrapperModel(config)
    try:
        wrapped.timm_model.load_state_dict(encoder.model.state_dict(), strict=False)
    except RuntimeError as error:
        raise RequestError(
            f"--format hf: timm's {node['name']} takes other weights: {str(error).splitlines()[0]}"
        ) from error
    wrapped.save_pretrained(folder)


@torch.no_grad()
def difference(subject: Subject, folder: Path) -> float:
    """Return how far the vectors of what AutoModel loads are from the run's, through its own processor too."""
    from safetensors.torch import load_file

    heads = load_file(folder / HEADS)
    off = [
        farthest(tower, {len(values_of(tower.encoder)): projected(_pooled(tower, folder / name), heads, name)})
        for name, tower in subject.towers.items()
    ]
    return max(off)


def _pooled(tower: Tower, folder: Path) -> Tensor:
    from transformers import AutoImageProcessor, AutoModel

    encoder: Any = tower.encoder
    loaded, values = AutoModel.from_pretrained(folder).eval(), values_of(encoder)
    if encoder.modality == "text":
        texts = read_texts(folder, values)
        tokens = loaded(input_ids=texts["ids"], attention_mask=texts["mask"].long()).last_hidden_state
        return pool(tokens, texts["mask"], stated_pooling(str(folder)))
    # One by one: the processor stacks what is of one size before it has made it so.
    processor = AutoImageProcessor.from_pretrained(folder)
    pixels = torch.cat([processor(value, return_tensors="pt")["pixel_values"] for value in values])
    return loaded(pixel_values=pixels).pooler_output.flatten(1)
