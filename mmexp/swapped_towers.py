"""Keys that a preset sets of a tower do not reach another tower that is chosen in its place.

`encoder=student` makes its text transformer small; `encoder=student encoder/text=bert` has BERT as it is. The same holds for
experiments, and for a whole bundle that is chosen in place of the experiment's own.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import OmegaConf, open_dict

# The overrides of the configuration that is being composed.
_OVERRIDES: ContextVar[tuple[str, ...]] = ContextVar("overrides", default=())
_CHOICE = re.compile(r"\+*encoder(?:/(\w+)(?:@encoder\.([\w.]+))?)?=(.+)")
_BUNDLE = ""
# Choices by place below `encoder`: `text`, or `video.image`, and that of the bundle.
Choices = dict[str, str]
Load = Callable[[str], Any]


def register() -> None:
    """Have Hydra's loader note the overrides of what it composes."""
    load = ConfigLoaderImpl.load_configuration
    if hasattr(load, "__wrapped__"):
        return

    @wraps(load)
    def noting(self: Any, config_name: Any, overrides: Sequence[str], *args: Any, **kwargs: Any) -> Any:
        token = _OVERRIDES.set(tuple(overrides))
        try:
            return load(self, config_name, list(overrides), *args, **kwargs)
        finally:
            _OVERRIDES.reset(token)

    ConfigLoaderImpl.load_configuration = noting  # type: ignore[method-assign]


def without_swapped(path: str, config: Any, load: Load) -> None:
    """Take out of a preset, in place, the keys of towers in whose place others are chosen.

    Args:
        path: that of the preset, such as `encoder/student` or `experiment/fusions`.
        config: its content, with its defaults list.
        load: returns the content of another file of the configuration, None where there is none.
    """
    group, _, name = path.removesuffix(".yaml").rpartition("/")
    if group not in ("encoder", "experiment"):
        return
    asked = dict(filter(None, map(_chosen, _OVERRIDES.get())))
    if not asked:
        return
    # Within a bundle its towers are at the top.
    root = config if group == "encoder" else config.get("encoder")
    if root is None:
        return
    stated = {_BUNDLE: name} if group == "encoder" else {_BUNDLE: _default_bundle(load), **_stated(config)}
    own = _towers(stated, load)
    now = _towers({**stated, **asked}, load)
    # The innermost first: of a video tower that stays, the picture tower inside may be another.
    for place in sorted(own, key=len, reverse=True):
        if place != _BUNDLE and now.get(place) != own[place]:
            _remove(root, place.split("."))


def _default_bundle(load: Load) -> str:
    """Return the bundle of a run for which nothing was chosen."""
    train = load("train")
    return _stated(train).get("encoder", "") if train is not None else ""


def _chosen(override: str) -> tuple[str, str] | None:
    found = _CHOICE.fullmatch(override)
    return (found[2] or found[1] or _BUNDLE, found[3]) if found else None


def _stated(config: Any) -> Choices:
    """Return which encoders a defaults list chooses, by place; `override /encoder: cnn` is the bundle."""
    choices: Choices = {}
    for entry in config.get("defaults") or []:
        for key, value in entry.items() if hasattr(entry, "items") else ():
            group, _, package = str(key).removeprefix("override ").strip().partition("@")
            inside = group.removeprefix("/encoder").removeprefix("/")
            if group.startswith("/encoder") or not group.startswith("/"):
                choices[package.removeprefix("encoder.") or inside] = str(value)
    return choices


def _towers(choices: Choices, load: Load) -> Choices:
    """Return the choice of every place: what is stated of it, else what the bundle says, else what a video tower says."""
    bundle = load(f"encoder/{choices[_BUNDLE]}") if choices.get(_BUNDLE) else None
    whole = {**(_stated(bundle) if bundle is not None else {}), **choices}
    if "video" in whole and (video := load(f"encoder/video/{whole['video']}")) is not None:
        whole = {**{f"video.{place}": choice for place, choice in _stated(video).items()}, **whole}
    return whole


def _remove(root: Any, words: Sequence[str]) -> None:
    *outer, last = words
    for word in outer:
        root = root.get(word) if isinstance(root, Mapping) or OmegaConf.is_dict(root) else None
        if root is None:
            return
    if last in root:
        with open_dict(root):
            root.pop(last)
