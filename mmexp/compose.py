"""Hydra's composition, with its complaints put into plain words."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from mmexp.errors import RequestError, nearest

CONFIG_MODULE = "mmexp.conf"
_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--config-name", "-cn", "--config-path", "-cp")


_FLAGS = (
    *(
        "--help",
        "-h",
        "--hydra-help",
        "--version",
        "--resolve",
        "--run",
        "-r",
        "--multirun",
        "-m",
        "--shell-completion",
        "-sc",
    ),
    *("--experimental-rerun", "--info", "-i", *_WITH_VALUE),
)


def check_flags(flags: Sequence[str]) -> None:
    """Raise RequestError for an option that there is not, which argparse would answer with a page."""
    for place, flag in enumerate(flags):
        name, equals, value = flag.partition("=")
        if not flag.startswith("-") or name in _FLAGS:
            if flag in _WITH_VALUE and place == len(flags) - 1:
                raise RequestError(f"'{flag}' has no value behind it.")
            if name in ("--cfg", "-c") and equals and value not in ("job", "hydra", "all"):
                raise RequestError(f"{name}={value}: it shows job, hydra or all.")
            continue
        setting = f" A setting is put as KEY=VALUE: {name.lstrip('-')}={value}." if equals else ""
        raise RequestError(
            f"'{name}' is no option.{setting or nearest(name, [f for f in _FLAGS if f.startswith('--')])}"
        )


def flags_first(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return flags (with their values) and overrides: argparse refuses overrides on both sides of a flag."""
    flags: list[str] = []
    overrides: list[str] = []
    for argument in arguments:
        is_value = bool(flags) and flags[-1] in _WITH_VALUE
        (flags if argument.startswith("-") or is_value else overrides).append(argument)
    return flags, overrides


def override(key: str, value: object) -> str:
    """Return the override that sets `key` to a text, such as a path, whatever signs it has; 0.1 and true stay text.

    Hydra's quoted strings: a quote is escaped, and backslashes before one are doubled.
    """
    text = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), str(value))
    return f"{key}='{text}'"


def compose(overrides: Sequence[str], config_dir: str | None = None) -> Any:
    """Return the composed configuration (a DictConfig with `hydra` in it). Raises RequestError."""
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_automatic_config_search_path
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    from mmexp import per_tower

    per_tower.register()
    path = create_automatic_config_search_path(None, None, f"pkg://{CONFIG_MODULE}")
    if config_dir:
        path.prepend("command-line", f"file://{os.path.abspath(config_dir)}")
    os.environ.setdefault("MMEXP_STAMP", "now")
    GlobalHydra.instance().clear()
    hydra = Hydra.create_main_hydra2("mmexp", path)
    try:
        return hydra.compose_config("train", per_tower.added(overrides), run_mode=RunMode.RUN, from_shell=True)
    except Exception as error:
        raise explained(error, overrides, config_dir) from error
    finally:
        GlobalHydra.instance().clear()


def resolved(whole: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a composed configuration as plain values without `hydra`, and from group to choice. Raises RequestError."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    HydraConfig.instance().set_config(whole)
    choices = {group: str(c) for group, c in whole.hydra.runtime.choices.items() if not group.startswith("hydra/")}
    with open_dict(whole):
        config = whole.copy()
        config.pop("hydra")
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise RequestError(str(error).splitlines()[0]) from error
    return plain, choices


def config_dir_of(hydra: Any) -> str | None:
    """Return the folder that --config-dir named, as the `hydra` of a composed configuration tells it."""
    return next((source.path for source in hydra.runtime.config_sources if source.provider == "command-line"), None)


def composed(loader: Any, whole: Any, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return plain values and choices of one run of the sweep that `whole` configures. Raises RequestError."""
    try:
        one = loader.load_sweep_config(whole, list(overrides))
    except Exception as error:
        raise explained(error, overrides, config_dir_of(whole.hydra)) from error
    return resolved(one)


def run_hydra(job: Callable[[Any], Any], arguments: Sequence[str]) -> None:
    """Run `job` as a Hydra app under `arguments`, all of Hydra's own flags included. Raises RequestError."""
    import hydra

    from mmexp import per_tower

    per_tower.register()
    # With it Hydra lets its exceptions through, so that they are told here, in our words.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    whole = sys.argv
    flags, overrides = flags_first(arguments)
    check_flags(flags)
    for one in overrides:
        if one.startswith("="):
            raise RequestError(f"'{one}' has no key. A setting is put as KEY=VALUE.")
    sys.argv = [whole[0], *flags, *per_tower.added(overrides)]
    try:
        hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name="train")(job)()
    except RequestError:
        raise
    except Exception as error:
        if _is_complaint(error):
            raise explained(error, overrides, folder_in(flags)) from error
        if isinstance(error, OSError) and error.filename and error.strerror:
            # Such as a run directory that cannot be made.
            raise RequestError(f"'{error.filename}': {error.strerror}.") from error
        raise
    finally:
        sys.argv = whole


def folder_in(flags: Sequence[str]) -> str | None:
    """Return what --config-dir names among flags, None where it is not there."""
    return next((flags[i + 1] for i, flag in enumerate(flags[:-1]) if flag in ("--config-dir", "-cd")), None)


def _is_complaint(error: Exception) -> bool:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    # The one thing that Hydra says about its own flags, and says as any error.
    return isinstance(error, HydraException | OmegaConfBaseException) or str(error).startswith("Only one of --run")


def explained(error: Exception, overrides: Sequence[str], config_dir: str | None = None) -> RequestError:
    """Return Hydra's complaint as one plain line with the nearest right name."""
    from hydra.errors import MissingConfigException, OverrideParseException

    chain = _chain(error)
    text = "\n".join(str(link) for link in chain)
    if wrong := next((link for link in chain if isinstance(link, OverrideParseException)), None):
        what = str(chain[0]).splitlines()[0]
        return RequestError(f"{wrong.override}: {what}. A setting is put as KEY=VALUE, a list as 'KEY=[a,b]'.")
    for link in chain:
        if isinstance(link, MissingConfigException) and link.missing_cfg_file:
            group, _, choice = link.missing_cfg_file.rpartition("/")
            if link.options:
                return RequestError(f"'{choice}' is not a choice of {group}.{nearest(choice, link.options)}")
    key = _refused_key(text)
    if key:
        return RequestError(_about_key(key, overrides, config_dir))
    return RequestError(" ".join(str(chain[0]).split()))


def _chain(error: BaseException | None) -> list[BaseException]:
    return [error, *_chain(error.__cause__ or error.__context__)] if error else []


def _refused_key(text: str) -> str | None:
    for pattern in (r"Could not override '([^']+)'", r"Could not append.* '([^']+)'", r"full_key: (\S+)"):
        if found := re.search(pattern, text):
            return found.group(1)
    return None


def _about_key(key: str, overrides: Sequence[str], config_dir: str | None) -> str:
    """Compose without the wrong override, and look what stands at its place."""
    others = [o for o in overrides if not o.lstrip("+~").startswith(f"{key}=")]
    if len(others) == len(overrides):
        return f"'{key}' is not a key of this run."
    try:
        parent = compose(others, config_dir)
    except RequestError as other:
        return str(other)
    parts = re.split(r"[./]", key)
    for depth, part in enumerate(parts):
        known = [k for k in parent if not k.startswith(("_", "hydra"))] if hasattr(parent, "keys") else []
        if part not in known:
            where = (
                f"{'.'.join(parts[:depth])} has no key '{part}'" if depth else f"'{key}' is no key or group of a run"
            )
            return f"{where}.{nearest(part, known)}{_further(key)}"
        parent = parent[part]
    return f"'{key}' cannot be set like this; see mmexp train --cfg job."


def _further(key: str) -> str:
    """Return what is said of a column that no modality has yet."""
    if not key.startswith("data.columns."):
        return ""
    name = key.removeprefix("data.columns.")
    return f" A further modality has both: +{key}=COLUMN +encoder/text@encoder.{name}=transformer."
