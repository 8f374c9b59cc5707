"""A part made in Python with no arguments is the part that its YAML file gives."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from pydoc import locate
from typing import Any

import yaml

CONF = Path(__file__).parents[2] / "conf"
# Hydra's own plugins are no parts of a run.
OTHERS = ("hydra",)
_NEUTRAL = "in code an operation does what its arguments say and nothing else; the file is one composition of them"
_LIMIT = "no limit holds in code that is not given; the file has the budget of a run without one"
# Parameters whose default is in none of the files that make their target, each with the reason.
EXCEPTIONS = {
    "mmexp.encoders.timm_image.TimmImage.stem": "a stem is for vision transformers, the class for every model of timm",
    "mmexp.encoders.audio_spectrogram_transformer.AudioSpectrogramTransformer.name": "None asks no hub for anything",
    "mmexp.augmentations.geometry.Geometry.crop": _NEUTRAL,
    "mmexp.augmentations.geometry.Geometry.flip": _NEUTRAL,
    "mmexp.augmentations.colour.Colour.brightness": _NEUTRAL,
    "mmexp.augmentations.colour.Colour.contrast": _NEUTRAL,
    "mmexp.augmentations.colour.Colour.saturation": _NEUTRAL,
    "mmexp.augmentations.colour.Colour.grey": _NEUTRAL,
    "mmexp.data.emoji_sequence.emoji_sequence.groups": "None is all of the data; the file chooses five of nine groups",
    "mmexp.data.emoji_moving.emoji_moving.styles": "None is all of the data; the file leaves out the style that the clips show",
    "mmexp.training.budget.DefaultBudget.epochs": _LIMIT,
    "mmexp.training.budget.DefaultBudget.min_steps": _LIMIT,
}


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a file that make something."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield value
        for inner in value.values():
            yield from nodes(inner)


def literals() -> dict[tuple[str, str], list[Any]]:
    """Return, by target and parameter, the plain values that files give it. Several files of one target differ on purpose."""
    found: dict[tuple[str, str], list[Any]] = {}
    for file in sorted(CONF.rglob("*.yaml")):
        if file.relative_to(CONF).parts[0] in OTHERS:
            continue
        for node in nodes(yaml.safe_load(file.read_text())):
            for key, value in node.items():
                if key != "_target_" and not isinstance(value, dict) and "${" not in str(value):
                    found.setdefault((node["_target_"], key), []).append(value)
    return found


def plain(value: Any) -> Any:
    """Return a value as files have it: lists for tuples, numbers for what YAML reads as text, such as 1e-3."""
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def test_defaults_in_code_are_those_of_the_files():
    different, compared = {}, 0
    for (target, key), values in literals().items():
        parameter = inspect.signature(locate(target)).parameters.get(key)
        if parameter is None or parameter.default is inspect.Parameter.empty:
            continue
        compared += 1
        if plain(parameter.default) not in map(plain, values):
            different[f"{target}.{key}"] = (parameter.default, values)
    assert {name: found for name, found in different.items() if name not in EXCEPTIONS} == {}
    # None of the exceptions is without effect.
    assert set(EXCEPTIONS) <= set(different)
    assert compared > 200
