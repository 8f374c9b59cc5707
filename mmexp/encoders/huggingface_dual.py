"""What a CLIP or SigLIP of the transformers library states of its common space and of how its texts are read."""

from typing import Any

from mmexp.encoders.projections import as_module, width_of
from mmexp.shapes import PretrainedSpace
from mmexp.state_dicts import LoadReport

# By model_type and modality the module that projects what a tower pools; None: pooled encodings are in the space.
_PROJECTIONS: dict[tuple[str, str], str | None] = {
    ("clip", "image"): "visual_projection",
    ("clip", "text"): "text_projection",
    ("siglip", "image"): None,
    ("siglip", "text"): "text_model.head",
}


def space_of(whole: Any, report: LoadReport | None, modality: str) -> PretrainedSpace | None:
    """Return the common space of a model, as far as one of its towers knows it.

    Args:
        whole: a model of transformers.
        report: what was loaded of its weights, None where they are random.
        modality: image or text.

    Returns:
        The space, with a copy of the projection; None for a model that is neither CLIP nor SigLIP, and where the projection, the
        logit scale or the bias were not among the weights.
    """
    kind = (whole.config.model_type, modality)
    if report is None or kind not in _PROJECTIONS:
        return None
    name = _PROJECTIONS[kind]
    needed = ("logit_scale", "logit_bias", *([f"{name}."] if name else []))
    if any(missing.startswith(needed) for missing in report.missing):
        return None
    config = whole.config.vision_config if modality == "image" else whole.config.text_config
    if not getattr(config, "vision_use_head", True):
        return None
    projection = as_module(whole.get_submodule(name) if name else None)
    bias = getattr(whole, "logit_bias", None)
    scale = whole.logit_scale.item()
    return PretrainedSpace(
        whole.name_or_path,
        projection,
        width_of(projection, config.hidden_size),
        scale,
        None if bias is None else bias.item(),
    )


def pools_last_token(model_type: str) -> bool:
    """Return whether a model pools texts by their last token: CLIP by its end mark, SigLIP by the last place of the context."""
    return model_type.partition("_")[0] in ("clip", "siglip")


def fills_context(model_type: str) -> bool:
    """Return whether a model was trained on texts that are padded to the whole context, without a mask (SigLIP)."""
    return model_type.partition("_")[0] == "siglip"
