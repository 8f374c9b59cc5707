"""Checks on the whole composed configuration, before anything is built or a heavy library imported."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmexp.combinations import Node, check_combination, of_towers
from mmexp.curriculum import Curriculum
from mmexp.errors import RequestError, nearest
from mmexp.signatures import signature
from mmexp.trust import check_targets
from mmexp.values import expected

ROOT = {
    "name": "str | int",
    "seed": "NonNegativeInt",
    "init_from": "str | None",
    "teacher": "str | None",
    "resume": "str | None",
    "resume_allow": "list[str]",
    "train": "bool",
    "evaluate": "bool",
    "log_every_steps": "PositiveInt",
    "trust": "list[str] | str",
}
SWEEP = {"name": "str | int", "same_code": "bool"}
GROUPS = (
    *("encoder", "fusion", "objective", "balance", "adapter", "task", "continual", "data", "augmentation", "prompts"),
    *("optimizer", "schedule", "hardware", "logger"),
)
SECTIONS = (
    *GROUPS,
    "strong",
    "variation",
    "cache",
    "budget",
    "checkpoint",
    "average",
    "early_stopping",
    "trainer",
    "compression",
    "sweep",
)
# Keys that a part shares with all of its group, beside those of its own target.
SHARED = {
    "data": "mmexp.data.loading.Loading",
    "objective": "mmexp.config.Weighted",
    "optimizer": "mmexp.training.groups.Stepping",
    "encoder": "mmexp.config.Tower",
}


@dataclass(frozen=True)
class Weighted:
    """What every objective has beside its own keys: the weight of its losses."""

    weight: Curriculum[float]


@dataclass(frozen=True)
class Tower:
    """What every encoder has beside its own keys: a run whose tower of the same modality it starts from."""

    weights: str | None


def check(config: Mapping[str, Any], choices: Mapping[str, str]) -> None:
    """Raise RequestError for the first wrong key, value or combination. `choices` maps group to choice."""
    for key in config:
        if key not in ROOT and key not in SECTIONS:
            raise RequestError(f"'{key}' is not a key of a run.{nearest(key, [*ROOT, *SECTIONS])}")
    for key, annotation in ROOT.items():
        _check_value(key, config.get(key), annotation, "train.yaml")
    for key, annotation in SWEEP.items():
        _check_value(f"sweep.{key}", config["sweep"].get(key), annotation, "train.yaml")
    for key in config["sweep"].keys() - SWEEP.keys():
        raise RequestError(f"'sweep.{key}' is not a key of a sweep.{nearest(key, SWEEP)}")
    for key, value in config["encoder"].items():
        if key != "base" and value is not None and not isinstance(value, Mapping):
            raise RequestError(
                f"'encoder.{key}' must be an encoder, not {value!r}.{nearest(key, ['base', *config['encoder']])}"
            )
    check_targets(config)
    nodes = list(_nodes("", config))
    for node in nodes:
        _check_node(node, choices)
    check_combination(config, {node.path: node for node in nodes})


def _nodes(path: str, values: Any) -> Iterator[Node]:
    if not isinstance(values, Mapping):
        return
    if "_target_" in values:
        yield Node(path, values, signature(values["_target_"]))
    for key, value in values.items():
        yield from _nodes(f"{path}.{key}" if path else str(key), value)


def _check_node(node: Node, choices: Mapping[str, str]) -> None:
    accepted = dict(node.accepts.parameters)
    if node.path == "adapter":
        accepted |= dict.fromkeys(of_towers(node.values), "")
    if shared := SHARED.get(node.path.partition(".")[0]):
        accepted |= signature(shared).parameters
    origin = _origin(node.path, choices)
    # A key such as `on:` is true, not text, to a YAML parser.
    for key, value in ((str(key), value) for key, value in node.values.items()):
        if key.startswith("_"):
            continue
        if key not in accepted and not node.accepts.open_ended:
            name = str(node.values["_target_"]).rpartition(".")[2]
            raise RequestError(f"'{node.path}.{key}' is not a key of {name} ({origin}).{nearest(key, accepted)}")
        _check_value(f"{node.path}.{key}", value, accepted.get(key, ""), origin)


def _check_value(path: str, value: Any, annotation: str, origin: str) -> None:
    if value == "???":
        raise RequestError(f"'{path}' has no value ({origin} leaves it to you). Set {path}=...")
    if wanted := expected(value, annotation):
        raise RequestError(f"'{path}' must be {wanted}, not {value!r} ({origin}).")


def _origin(path: str, choices: Mapping[str, str]) -> str:
    """Return the file that a node comes from, as seen from the configuration folder."""
    parts = path.split(".")
    files = {
        # What is chosen for one tower's adapter stands in the same files.
        (key.partition("@")[2] or key.replace("/", ".")): (
            f"{'adapter' if key.startswith('adapter/') else key.partition('@')[0]}/{choice}.yaml"
        )
        for key, choice in choices.items()
        if not str(choice).startswith("[")
    }
    for end in range(len(parts), 0, -1):
        if file := files.get(".".join(parts[:end])):
            return file
    if parts[0] in ("objective", "augmentation", "strong", "logger") and len(parts) > 1:
        return f"{parts[0].replace('strong', 'augmentation')}/{parts[1]}.yaml"
    return "train.yaml"
