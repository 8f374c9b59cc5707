"""A run of open_clip's towers as a folder that open_clip itself loads: `local-dir:FOLDER`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmexp.encoders.open_clip_image import OpenClipImage
from mmexp.encoders.open_clip_text import OpenClipText
from mmexp.encoders.pictures import resize_mode
from mmexp.errors import RequestError
from mmexp.exporting.subject import Subject
from mmexp.exporting.towers import values_of
from mmexp.model import Model

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
# Of unit vectors, what may differ between two ways through the same weights in fp32.
TOLERANCE = 1e-5


def write(subject: Subject, folder: Path) -> None:
    """Write configuration and weights.

    Raises RequestError for towers that open_clip cannot build from one configuration.
    """
    from safetensors.torch import save_file

    config, head = subject.config, subject.space
    image, text = _towers(config, subject.model)
    if any(type(one) is not nn.Linear or one.bias is not None for one in head.heads.values()):
        raise RequestError(
            "--format open_clip: a head of this run has a bias or several layers. Choose --format onnx or torch."
        )
    told = _model_config(str(config["encoder"]["image"]["name"]))
    width = head.heads["image"].out_features
    told |= {"embed_dim": width, "custom_text": True}
    told["vision_cfg"] = {**told["vision_cfg"], "image_size": image.image_size}
    told["text_cfg"] = {**told["text_cfg"], "context_length": text.context}
    state = {f"visual.{name}": tensor for name, tensor in image.model.state_dict().items()}
    state |= {f"text.{name}": tensor for name, tensor in text.model.state_dict().items()}
    # Of a context shorter than the model's own the last positions are not used.
    positions = state["text.positional_embedding"]
    state["text.positional_embedding"] = positions[: text.context + (text.model.cls_emb is not None)]
    state |= {"visual.proj": head.heads["image"].weight.T, "text.text_projection": head.heads["text"].weight.T}
    state["logit_scale"] = head.log_scale
    if hasattr(head, "bias"):
        told["init_logit_bias"], state["logit_bias"] = head.bias.item(), head.bias
    seen = {
        "size": image.image_size,
        "mean": image.mean,
        "std": image.std,
        "interpolation": image.transform.interpolation,
        "resize_mode": resize_mode(image.transform),
        "fill_color": image.transform.fill,
    }
    (folder / CONFIG).write_text(json.dumps({"model_cfg": told, "preprocess_cfg": seen}, indent=2) + "\n")
    save_file({name: tensor.detach().contiguous().clone() for name, tensor in state.items()}, folder / WEIGHTS)


def _towers(config: Mapping[str, Any], model: Model) -> tuple[OpenClipImage, OpenClipText]:
    towers = dict(model.encoders.items())
    image, text = (towers.get(name) for name in ("image", "text"))
    if not (isinstance(image, OpenClipImage) and isinstance(text, OpenClipText)):
        raise RequestError("--format open_clip: the run's towers are not open_clip's. Train with encoder=open_clip.")
    names = [config["encoder"][name]["name"] for name in ("image", "text")]
    if (
        names[0] != names[1]
        or image.kind != "vit"
        or text.foreign
        or not isinstance(text.model.text_projection, Tensor)
    ):
        raise RequestError(
            f"--format open_clip: towers {names[0]} and {names[1]} are not those of one CLIP of transformers, as it has to be."
        )
    return image, text


def _model_config(name: str) -> dict[str, Any]:
    """Return open_clip's configuration of a model, by its name or in its folder."""
    import open_clip

    if name.startswith("local-dir:"):
        return json.loads((Path(name.removeprefix("local-dir:")) / CONFIG).read_text())["model_cfg"]
    return dict(open_clip.get_model_config(name.replace("/", "-")) or {})


@torch.no_grad()
def difference(subject: Subject, folder: Path) -> float:
    """Return how far the vectors of what open_clip loads from `folder` are from the run's, at most.

    Pictures of several sizes and captions of several lengths go through each one's own preparation.
    """
    import open_clip

    pictures, captions = (values_of(subject.model.encoders[name]) for name in ("image", "text"))
    loaded, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    loaded.eval()
    pixels: Tensor = torch.stack([prepare(picture) for picture in pictures])
    ids = open_clip.get_tokenizer(f"local-dir:{folder}")(captions)
    theirs = {"image": loaded.encode_image(pixels, normalize=True), "text": loaded.encode_text(ids, normalize=True)}
    model, head = subject.model.eval(), subject.space
    towers = {"image": pictures, "text": captions}
    ours = head.embed(model.encode({name: model.encoders[name].prepare(values) for name, values in towers.items()}))
    return max(float((ours[name] - vectors).abs().max()) for name, vectors in theirs.items())
