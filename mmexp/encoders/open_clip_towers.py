"""One tower of an open_clip model, with or without trained weights."""

from functools import partial
from pathlib import Path
from typing import Any

from mmexp.encoders.hub import from_hub, in_folder
from mmexp.encoders.names import nearest_of_many
from mmexp.errors import RequestError


def tower(name: str, pretrained: str | None, which: str) -> Any:
    """Return the `visual` or `text` tower of `name`; random weights, without the network, where `pretrained` is None.

    `name` may also be `local-dir:FOLDER` or `hf-hub:OWNER/NAME`, which bring their own weights. `pretrained` is a file or
    one of open_clip's tags. Raises RequestError where there is no such thing.
    """
    import open_clip

    if ":" not in name and name.replace("/", "-") not in open_clip.list_models():
        hint = nearest_of_many(name, open_clip.list_models(), "open_clip.list_models()")
        raise RequestError(f"open_clip has no model '{name}'.{hint}")
    if ":" not in name and pretrained is None:
        return _random(name.replace("/", "-"), which)
    _check_weights(name, pretrained)
    # force_custom_text gathers the text tower in one module; its weights are renamed on loading.
    make = partial(open_clip.create_model, name, pretrained=pretrained, force_custom_text=True, pretrained_text=False)
    local = name.startswith("local-dir:") or (pretrained is not None and Path(pretrained).is_file())
    with (in_folder if local else from_hub)(f"open_clip could not load '{name}' ({pretrained})"):
        return getattr(make(), which)


def tokenizer_of(name: str) -> Any:
    """Return open_clip's tokenizer of a model; that of SigLIP comes from the hub. Raises RequestError."""
    import open_clip

    config = {} if ":" in name else open_clip.get_model_config(name) or {}
    if ":" not in name and "hf_tokenizer_name" not in config.get("text_cfg", {}):
        return open_clip.get_tokenizer(name)
    # A folder may name a tokenizer of the hub.
    with from_hub(f"open_clip could not load the tokenizer of '{name}'"):
        return open_clip.get_tokenizer(name)


def _check_weights(name: str, pretrained: str | None) -> None:
    import open_clip

    if ":" in name or pretrained is None or Path(pretrained).is_file():
        return
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained.lower().replace("-", "_") not in {tag.lower().replace("-", "_") for tag in tags}:
        hint = nearest_of_many(pretrained, tags, f"open_clip.list_pretrained_tags_by_model('{name}')")
        raise RequestError(f"pretrained: '{pretrained}' is neither a file nor a tag of '{name}'.{hint}")


def _random(name: str, which: str) -> Any:
    """Build only the tower that is wanted: the other one may be a download, or billions of weights."""
    import open_clip
    from open_clip.model import _build_text_tower, _build_vision_tower

    config = open_clip.get_model_config(name)
    gelu = config.get("quick_gelu", False)
    if which == "visual":
        vision = {**config["vision_cfg"], "timm_model_pretrained": False}
        return _build_vision_tower(config["embed_dim"], vision, gelu)
    return _build_text_tower(config["embed_dim"], {**config["text_cfg"], "hf_model_pretrained": False}, gelu)
