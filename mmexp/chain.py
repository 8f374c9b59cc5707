"""A chain: stages of training from one file, each composed and checked before the first starts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from mmexp.compose import compose, resolved
from mmexp.compose import override as text_override
from mmexp.config import check
from mmexp.errors import RequestError, nearest

_NAME = re.compile(r"[\w.-]+")
_STAGE = "stage:"


@dataclass(frozen=True)
class Stage:
    """One training of a chain: where it goes, what it overrides, and the whole configuration that comes of it."""

    name: str
    directory: Path
    overrides: list[str]
    config: Mapping[str, Any]


def recipes(config_dir: str | None = None) -> dict[str, str]:
    """Return the text of every chain there is by its name; those of a user's own folder come first."""
    packaged: Any = files("mmexp.conf") / "chain"
    folders = [packaged, *([Path(config_dir) / "chain"] if config_dir else [])]
    return {
        file.name.removesuffix(".yaml"): file.read_text()
        for folder in folders
        if folder.is_dir()
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".yaml")
    }


def planned(name: str, arguments: Sequence[str], stamp: str, config_dir: str | None = None) -> list[Stage]:
    """Return the stages of the chain `name` in order, each checked. Raises RequestError.

    Of `arguments`, KEY=VALUE goes to all stages, STAGE:KEY=VALUE to one, and `chain.name=` names the directory below
    outputs/chains. `KEY=stage:NAME` stands for the directory of an earlier stage.
    """
    known = recipes(config_dir)
    if name not in known:
        raise RequestError(f"'{name}' is not a chain.{nearest(name, known)}")
    written = _written(name, known[name])
    directory, more = _sorted_out(arguments, written, f"{stamp}-{name}")
    stages: list[Stage] = []
    for stage, own in written.items():
        overrides = _last_of_each([f"name={stage}", *own, *more[""], *more[stage]])
        overrides = [_placed(stage, override, {s.name: s.directory for s in stages}) for override in overrides]
        try:
            config, choices = resolved(compose(overrides, config_dir))
            check(config, choices)
        except RequestError as error:
            raise RequestError(f"stage '{stage}': {error}") from error
        stages.append(Stage(stage, directory / stage, overrides, config))
    return stages


def _written(name: str, text: str) -> dict[str, list[str]]:
    """Return what the file says: from stage to overrides."""
    try:
        stages = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RequestError(f"chain/{name}.yaml: {' '.join(str(error).split())}") from error
    lists = isinstance(stages, dict) and all(
        _NAME.fullmatch(str(stage)) and isinstance(own, list) and all(isinstance(one, str) for one in own)
        for stage, own in stages.items()
    )
    if not lists:
        raise RequestError(
            f"chain/{name}.yaml: each stage is a name with a list of overrides, such as 'distil: [budget.epochs=5]'."
        )
    return stages


def _sorted_out(arguments: Sequence[str], stages: Mapping[str, Any], default: str) -> tuple[Path, dict[str, list[str]]]:
    """Return the chain's directory, and the overrides for all stages (below "") and for each."""
    directory = default
    more: dict[str, list[str]] = {name: [] for name in ("", *stages)}
    for argument in arguments:
        key, sign, value = argument.partition("=")
        stage, mark, own = key.partition(":")
        if not sign:
            raise RequestError(
                f"'{argument}' is no setting. A setting is put as KEY=VALUE, for one stage as STAGE:KEY=VALUE."
            )
        if key == "chain.name":
            if not _NAME.fullmatch(value):
                raise RequestError(f"chain.name='{value}': a name has letters, digits, '_', '-' and '.' only.")
            directory = value
        elif mark and stage not in stages:
            raise RequestError(f"'{stage}' is no stage of this chain.{nearest(stage, stages)}")
        elif key.startswith("chain."):
            raise RequestError(f"'{key}' is not a key of a chain.{nearest(key, ['chain.name'])}")
        elif (own if mark else key).startswith("hydra."):
            raise RequestError(f"'{key}' is the chain's to set. Name its directory with chain.name=NAME.")
        else:
            more[stage if mark else ""].append(f"{own}={value}" if mark else argument)
    return Path("outputs/chains") / directory, more


def _last_of_each(overrides: Sequence[str]) -> list[str]:
    """Return the overrides, of several for one key only the last: Hydra takes no group twice."""
    return list({override.partition("=")[0].lstrip("+"): override for override in overrides}.values())


def _placed(stage: str, override: str, earlier: Mapping[str, Path]) -> str:
    """Return the override with the directory of the earlier stage that it names."""
    key, _, value = override.partition("=")
    if not value.startswith(_STAGE):
        return override
    name = value.removeprefix(_STAGE)
    if name not in earlier:
        raise RequestError(f"stage '{stage}': {override} names no earlier stage.{nearest(name, earlier)}")
    return text_override(key, earlier[name])
