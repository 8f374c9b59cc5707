"""One tower of an open_clip model, with or without trained weights."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mmexp.encoders.hub import from_hub, in_folder
from mmexp.encoders.names import nearest_of_many
from mmexp.errors import RequestError
from mmexp.state_dicts import LoadReport, recorded, without_prefix


def tower(
    name: str, pretrained: str | None, which: str, image_size: int | None = None, context_length: int | None = None
) -> tuple[Any, LoadReport | None]:
    """Return the `visual` or `text` tower of `name`, and what was found of its weights.

    Args:
        name: a model of open_clip, `local-dir:FOLDER` or `hf-hub:OWNER/NAME`, which bring their own weights.
        pretrained: a file or one of open_clip's tags; None leaves the weights random, without the network.
        which: `visual` or `text`.
        image_size: the side of pictures in pixels, None for the model's own; trained positions are resampled.
        context_length: the most tokens of a text, None for the model's own; trained positions are resampled.

    Returns:
        The tower, with the model's `logit_scale` and `logit_bias` as its attribute `logits`, and the report, which is None where
        nothing was loaded: a folder may hold a configuration alone.

    Raises:
        RequestError: there is no such model, tag or file, or some of the tower's weights are missing.
    """
    import open_clip

    _check_name(name)
    if ":" not in name and pretrained is None:
        return _random(name.replace("/", "-"), which, image_size, context_length), None
    _check_weights(name, pretrained)
    # force_custom_text gathers the text tower in one module; its weights are renamed on loading.
    sizes = {"force_image_size": image_size, "force_context_length": context_length}
    make = partial(
        open_clip.create_model, name, pretrained=pretrained, force_custom_text=True, pretrained_text=False, **sizes
    )
    local = name.startswith("local-dir:") or (pretrained is not None and Path(pretrained).is_file())
    source = f"'{name}'" if ":" in name else f"'{pretrained}'"
    with (in_folder if local else from_hub)(f"open_clip could not load '{name}' ({pretrained})"):
        with recorded(source) as reports:
            model = make()
        report = _without_prefix(model, reports[-1], source) if reports else None
    if report is None and not name.startswith("local-dir:"):
        raise RequestError(f"open_clip found no weights of '{name}'. Name another model, or a tag in pretrained=.")
    part = getattr(model, which)
    scale, bias = model.logit_scale, getattr(model, "logit_bias", None)
    part.logits = (scale.item(), None if bias is None else bias.item())
    own = report and report.of(which, part.state_dict())
    if own:
        own.require(source)
    return part, own


def _without_prefix(model: Any, report: LoadReport, source: str) -> LoadReport:
    """Load again what stands below a common prefix, with open_clip's own conversions; return the report that holds."""
    from open_clip import load_checkpoint

    stripped, prefix = without_prefix(report.given, model.state_dict()) if report.missing else ({}, "")
    if not prefix:
        return replace(report, given={})
    with TemporaryDirectory() as folder, recorded(source) as reports:
        file = Path(folder) / "weights.pt"
        torch.save(stripped, file)
        load_checkpoint(model, str(file))
    return replace(reports[-1], prefix=prefix, given={})


def source_of(name: str, pretrained: str | None) -> str:
    """Return how model and weights are named together; towers of one source come from one dual encoder."""
    return name if pretrained is None else f"{name}, {pretrained}"


def no_weights(name: str) -> str:
    """Return what is to be reported of a model whose folder holds a configuration alone, "" for any other."""
    return f"random weights: {name} holds none" if ":" in name else ""


def tokenizer_of(name: str) -> Any:
    """Return open_clip's tokenizer of a model; that of SigLIP comes from the hub. Raises RequestError."""
    import open_clip

    _check_name(name)
    config = {} if ":" in name else open_clip.get_model_config(name) or {}
    if ":" not in name and "hf_tokenizer_name" not in config.get("text_cfg", {}):
        return open_clip.get_tokenizer(name)
    # A folder may name a tokenizer of the hub.
    with from_hub(f"open_clip could not load the tokenizer of '{name}'"):
        return open_clip.get_tokenizer(name)


def _check_name(name: str) -> None:
    import open_clip

    if ":" not in name and name.replace("/", "-") not in open_clip.list_models():
        hint = nearest_of_many(name, open_clip.list_models(), "open_clip.list_models()")
        raise RequestError(f"open_clip has no model '{name}'.{hint}")


def _check_weights(name: str, pretrained: str | None) -> None:
    import open_clip

    if ":" in name or pretrained is None or Path(pretrained).is_file():
        return
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained.lower().replace("-", "_") not in {tag.lower().replace("-", "_") for tag in tags}:
        hint = nearest_of_many(pretrained, tags, f"open_clip.list_pretrained_tags_by_model('{name}')")
        raise RequestError(f"pretrained: '{pretrained}' is neither a file nor a tag of '{name}'.{hint}")


def _random(name: str, which: str, image_size: int | None, context_length: int | None) -> Any:
    """Build only the tower that is wanted: the other one may be a download, or billions of weights."""
    import open_clip
    from open_clip.model import _build_text_tower, _build_vision_tower

    config = open_clip.get_model_config(name)
    gelu = config.get("quick_gelu", False)
    if which == "visual":
        own = {"timm_model_pretrained": False} | ({"image_size": image_size} if image_size else {})
        vision = {**config["vision_cfg"], **own}
        return _build_vision_tower(config["embed_dim"], vision, gelu)
    own = {"hf_model_pretrained": False} | ({"context_length": context_length} if context_length else {})
    return _build_text_tower(config["embed_dim"], {**config["text_cfg"], **own}, gelu)
