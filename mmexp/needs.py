"""What objectives need of data and model, as their `needs` say, and the plain words where it is not there."""

from collections.abc import Collection, Mapping
from typing import Any

from mmexp.errors import RequestError
from mmexp.model import Model
from mmexp.shapes import Supervision
from mmexp.signatures import signature

TEACHER = "teacher."  # what an objective hears of a teacher, as `teacher.vectors`

# Whatever else an objective may name is a modality. Those of the configuration alone are checked before anything is built.
OF_THE_MODEL = {
    "pooled",
    "tokens",
    "fused",
    "fused_tokens",
    "visible",
    "every_patch",
    "concepts",
    "pairs",
    "clean",
    "strong",
    "inputs",
    "word_vectors",
}
# What is said where the data lacks what an objective learns from.
LACKING = {
    "labels": "labels, and the data has none. Set data.columns.label=COLUMN.",
    "targets": "several labels a row, and the data has none. Set data.label_separator, or data.label=tags for emoji.",
    "number": "a number to each row, and the data has none. Set data.columns.target=COLUMN.",
}
ONE_CLASS = (
    "needs labels of at least two classes, and all labelled rows of train are of the class '{}'. "
    "Set data.columns.label to a column with several, or choose another objective."
)
NO_STRONG = "needs a strongly augmented view. Set augmentation@strong=strong, or another choice."
NOT_BY_VECTORS = (
    "puts learned vectors before words, and this text encoder takes words alone. "
    "Choose encoder/text=transformer, or a text tower of open_clip with a causal mask."
)
NOT_IN_PARTS = (
    "encodes visible patches alone, and this picture encoder cannot leave any out. "
    "Choose encoder/image=vit or another vision transformer, or objective=masked, which takes any encoder."
)
NOT_EVERY_PATCH = (
    "predicts in the place of every patch, and encoder.image.patch_dropout leaves patches out. "
    "Set encoder.image.patch_dropout=0, or take objective=mae, which encodes the patches that it shows alone."
)


def needs_of(node: Mapping[str, Any]) -> set[str]:
    """Return what an objective needs, by its configuration."""
    return {need.format(**node) for need in signature(node["_target_"]).needs}


def check_needs(config: Mapping[str, Any], built: Model, supervision: Supervision) -> None:
    """Raise RequestError for an objective that needs what data or model do not have."""
    for name, node in config["objective"].items():
        needs = needs_of(node)
        if node.get("patches") == 0:
            # Masked modelling of words alone.
            needs.discard("every_patch")
        lack = _lack(needs, bool(config.get("strong")), dict(built.encoders.items()), supervision.kinds)
        there = [label for label, rows in zip(supervision.classes, supervision.counts, strict=True) if rows]
        if not lack and "labels" in needs and len(there) == 1 and config["train"]:
            lack = ONE_CLASS.format(there[0])
        if lack:
            raise RequestError(f"objective '{name}' {lack}")


def kinds_asked(config: Mapping[str, Any], name: str) -> set[str]:
    """Return the kinds of what a teacher says that an objective learns from."""
    needs = needs_of(config["objective"][name])
    return {need.removeprefix(TEACHER) for need in needs if need.startswith(TEACHER)}


def _lack(needs: set[str], strong: bool, encoders: Mapping[str, Any], kinds: Collection[str]) -> str | None:
    """Return what is said of the first need that is not met."""
    if missing := sorted((needs & set(LACKING)) - set(kinds)):
        return f"needs {LACKING[missing[0]]}"
    if "strong" in needs and not strong:
        return NO_STRONG
    have = ", ".join(encoders)
    if "pairs" in needs and len(encoders) < 2:
        hint = " The data have labels, which objective=classify learns." if "labels" in kinds else ""
        return f"needs two modalities, and there is only {have}. See data.columns.{hint}"
    heard = {need for need in needs if need.startswith(TEACHER)}
    if wrong := sorted(needs - heard - OF_THE_MODEL - set(LACKING) - set(encoders)):
        return f"wants '{wrong[0]}', which this model does not have: {have}.{_renamed(wrong[0], encoders)}"
    if "visible" in needs and not getattr(encoders["image"], "sees_parts", False):
        return NOT_IN_PARTS
    if "every_patch" in needs and getattr(encoders.get("image"), "drops_patches", False):
        return NOT_EVERY_PATCH
    if "word_vectors" in needs and getattr(encoders["text"], "word_dim", None) is None:
        return NOT_BY_VECTORS
    return None


def _renamed(kind: str, encoders: Mapping[str, Any]) -> str:
    """Return what is said where an encoder of the kind has another name."""
    others = [name for name, encoder in encoders.items() if getattr(encoder, "modality", name) == kind]
    return f" Give '{others[0]}' that name, in encoder and data.columns." if others else ""


def looked_at(config: Mapping[str, Any]) -> tuple[bool, bool]:
    """Return whether fusion or objectives look at the tokens of encodings, and whether objectives look at encoders' inputs."""
    fusion = signature(config["fusion"]["_target_"]).constants
    needs = {need for node in config["objective"].values() for need in signature(node["_target_"]).needs}
    tokens = not (fusion.get("absent") or fusion.get("reads_pooled")) or needs & {"tokens", "visible", "fused_tokens"}
    return bool(tokens), "inputs" in needs
