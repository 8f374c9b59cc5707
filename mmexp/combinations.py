"""What of a configuration does not go together: each choice right by itself, and the whole built in vain."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmexp.errors import RequestError, nearest
from mmexp.pace import limits_in_force
from mmexp.signatures import Signature


@dataclass(frozen=True)
class Node:
    """One thing to build: where it stands in the configuration, its keys, and what its target accepts."""

    path: str
    values: Mapping[str, Any]
    accepts: Signature


def of_towers(adapter: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the adapters that are chosen for single towers, or the fusion, by its name."""
    return {name: node for name, node in adapter.items() if isinstance(node, Mapping) and "_target_" in node}


def check_combination(config: Mapping[str, Any], nodes: Mapping[str, Node]) -> None:
    """Refuse what would be built in vain, and objectives that lack what they need."""
    needs = {
        path.removeprefix("objective."): {need.format(**node.values) for need in node.accepts.needs}
        for path, node in nodes.items()
        if path.startswith("objective.") and path.count(".") == 1
    }
    if not needs:
        raise RequestError("objective: there is nothing to learn. Choose objective=contrastive or another.")
    fusion = nodes["fusion"]
    fuses = not fusion.accepts.constants.get("absent", False)
    for name, wanted in needs.items():
        if "fused" in wanted and not fuses:
            raise RequestError(
                f"objective '{name}' needs a fused output, but this fusion has none. "
                f"Choose fusion=concat or fusion=xattn, or leave '{name}' out: {_without(needs, name)}."
            )
        if "fused_tokens" in wanted and not fusion.accepts.constants.get("keeps_tokens", False):
            raise RequestError(
                f"objective '{name}' predicts from the fused tokens of each modality, and this fusion does not keep them. "
                f"Choose fusion=xattn, or leave '{name}' out: {_without(needs, name)}."
            )
    if fuses and not any("fused" in wanted for wanted in needs.values()):
        raise RequestError(
            f"no objective uses the fusion: {', '.join(needs)} would leave it untrained. "
            f"Choose fusion=none, or add one that does: 'objective=[{','.join([*needs, 'matching'])}]'."
        )
    _check_teacher(config, nodes["task"], needs)
    _check_adapters(config, nodes)
    _check_sequence(config, nodes)
    _check_cost(config)


def _check_cost(config: Mapping[str, Any]) -> None:
    """Refuse to count every step as the first one where steps come to cost more."""
    image = config["encoder"].get("image")
    if (
        "flops" in limits_in_force(config["budget"])
        and isinstance(image, Mapping)
        and isinstance(image.get("patch_dropout"), Mapping)
    ):
        raise RequestError(
            "budget.flops counts each step as the first, and encoder.image.patch_dropout changes what steps cost. "
            "Set budget.steps or budget.seconds."
        )


def _check_teacher(config: Mapping[str, Any], task: Node, needs: Mapping[str, set[str]]) -> None:
    distils = bool(task.accepts.constants.get("has_teacher", False))
    itself = bool(task.accepts.constants.get("teaches_itself", False))
    taught = [name for name, wanted in needs.items() if any(need.startswith("teacher.") for need in wanted)]
    teacher = config.get("teacher")
    if taught and not (distils if teacher else itself):
        raise RequestError(
            f"objective '{taught[0]}' needs a teacher. Add task=distill teacher=RUN_DIRECTORY, or task=self_distill."
        )
    if itself and teacher:
        raise RequestError("task=self_distill is its own teacher. Leave teacher= out, or choose task=distill.")
    if itself and not taught:
        raise RequestError("task=self_distill: no objective learns from the teacher. Add objective=distill.")
    # With a teacher that no objective asks, the run is a plain one: the student alone, in a sweep over objectives.
    if distils and not itself and not teacher:
        raise RequestError("task=distill needs a teacher. Set teacher=RUN_DIRECTORY.")
    if teacher and not distils:
        raise RequestError("teacher= is set, but this task has none. Choose task=distill objective=distill.")


def _check_adapters(config: Mapping[str, Any], nodes: Mapping[str, Node]) -> None:
    """Refuse an adapter for a tower that is none, or that it is not for, and a probe by more than linear heads."""
    towers = [name for name, node in config["encoder"].items() if isinstance(node, Mapping)]
    chosen = of_towers(config["adapter"])
    if (locked := config["adapter"].get("locked")) in chosen:
        raise RequestError(f"adapter/{locked}=: adapter.locked={locked} freezes this tower. Leave one of the two out.")
    for name in chosen:
        kind = nodes[f"adapter.{name}"].accepts.constants
        if name not in (*towers, "fusion"):
            raise RequestError(f"adapter/{name}=: this model has no such part.{nearest(name, [*towers, 'fusion'])}")
        if kind.get("whole"):
            raise RequestError(
                f"adapter/{name}=: this adapter is one of the whole model. Put adapter= for it, or adapter/{name}=frozen."
            )
        if name == "fusion" and kind.get("towers_only"):
            raise RequestError(
                "adapter/fusion=: this adapter is one of towers. Choose adapter/fusion=full, frozen, lora or bitfit."
            )
    if isinstance(locked, str) and locked not in towers:
        raise RequestError(f"adapter.locked={locked}: there is no such tower.{nearest(locked, towers)}")
    if not nodes["adapter"].accepts.constants.get("linear"):
        return
    if chosen:
        raise RequestError(f"adapter=probe rests the whole model. Leave adapter/{next(iter(chosen))}= out.")
    for name in config["objective"]:
        if not nodes[f"objective.{name}"].accepts.constants.get("linear_head"):
            raise RequestError(
                f"adapter=probe: objective '{name}' is more than a linear head. "
                "Choose objective=classify, multilabel or regress, or adapter=frozen."
            )


def _check_sequence(config: Mapping[str, Any], nodes: Mapping[str, Node]) -> None:
    """Refuse tasks in sequence without a method, a method without them, and what the method would not go with."""
    in_sequence = bool(nodes["task"].accepts.constants.get("in_sequence", False))
    method = nodes.get("continual")
    if in_sequence and method is None:
        raise RequestError("task=continual needs a method. Add continual=plain, or another that forgets less.")
    if method is None:
        return
    if not in_sequence:
        raise RequestError("continual= is set, but this task has no tasks in sequence. Choose task=continual.")
    if method.accepts.constants.get("adds_losses") and "shared" in nodes["balance"].accepts.needs:
        raise RequestError(
            "continual: this method adds a loss, whose gradient this balance would replace. Choose balance=fixed."
        )
    plain = nodes["adapter"].values["_target_"].endswith(".Full") and not of_towers(config["adapter"])
    if "adapter" in method.values and not plain:
        raise RequestError("continual: this method has adapters of its own. Choose adapter=full.")
    if "seconds" in limits_in_force(config["budget"]):
        raise RequestError(
            "budget.seconds: tasks in sequence have as many steps each, which time cannot tell. Set budget.steps."
        )
    if config["early_stopping"]["patience"]:
        raise RequestError("early_stopping.patience: tasks in sequence have no best validation. Leave it null.")
    if config["average"]["decay"] is not None:
        raise RequestError("average.decay: the result of tasks in sequence is their last weights. Leave it null.")


def _without(needs: Mapping[str, set[str]], name: str) -> str:
    rest = [other for other in needs if other != name] or ["contrastive"]
    return f"objective={rest[0]}" if len(rest) == 1 else f"'objective=[{','.join(rest)}]'"
