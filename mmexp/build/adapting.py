"""Which adapter each part of a model has, and what of them stands in stored weights."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from mmexp.adapters.blank import unreached
from mmexp.adapters.frozen import Frozen
from mmexp.build.making import Config, make
from mmexp.combinations import of_towers
from mmexp.errors import RequestError
from mmexp.model import Model
from mmexp.types import Adapter

# Layers that stay beside the weights: those of a tower, and those behind one.
_LAYERS = re.compile(r"model\.(?:(encoders\.\w+|fusion)\.adapter\.(\w+)|(alignment)\.(\w+))\.")


def adapter_of(config: Config) -> Config:
    """Return the node of the adapter: that of the method against forgetting, where it has one."""
    return (config.get("continual") or {}).get("adapter") or config["adapter"]


def parts_of(model: Model) -> dict[str, nn.Module]:
    """Return `encoders.<name>` for each encoder, then `fusion`, where these have weights."""
    parts = {f"encoders.{name}": encoder for name, encoder in model.encoders.items()} | {"fusion": model.fusion}
    return {name: part for name, part in parts.items() if any(True for _ in part.parameters())}


def adapters_of(config: Config, model: Model) -> dict[str, Adapter]:
    """Return the adapter of each part: its own choice, else that of the run."""
    node = adapter_of(config)
    towers = of_towers(node)
    shared = make(node, without=tuple(towers))
    chosen: dict[str, Any] = {}
    for name in parts_of(model):
        tower = name.rpartition(".")[2]
        adapter = make(towers[tower]) if tower in towers else shared
        if name == "fusion" and getattr(adapter, "towers_only", False):
            adapter = Frozen()
        adapter = adapter.of(name) if hasattr(adapter, "of") else adapter
        chosen[name] = WhereItFits(adapter) if name == "fusion" and tower not in towers else adapter
    return chosen


class WhereItFits:
    """An adapter for the fusion that was chosen for the towers: a fusion that it does not fit rests, as with LoRA."""

    def __init__(self, adapter: Any):
        self.adapter = adapter

    def __getattr__(self, name: str) -> Any:
        return getattr(self.adapter, name)

    def apply(self, name: str, part: nn.Module) -> None:
        """Apply the adapter, or freeze the part."""
        try:
            self.adapter.apply(name, part)
        except RequestError:
            Frozen().apply(name, part)


def put_on(model: Model, adapters: Mapping[str, Adapter], parts: Collection[str]) -> None:
    """Apply the adapters of `parts`, and let what stands behind a tower stand there. Raises RequestError where one cannot."""
    own = parts_of(model)
    for name in (name for name in adapters if name in parts):
        adapter, part = adapters[name], own[name]
        adapter.apply(name, part)
        if dead := unreached(part):
            raise RequestError(
                f"adapter/{name.rpartition('.')[2]}: {name}.{dead[0]} would be trained and never used: this tower takes the "
                "weight of that layer and does not call it. Set targets to others, or choose another adapter."
            )
        if hasattr(adapter, "behind") and name != "fusion":
            model.alignment[name.rpartition(".")[2]] = adapter.behind(part.dim)


def adapted(weights: Collection[str], adapters: Mapping[str, Adapter]) -> set[str]:
    """Return the parts whose adapter added some of `weights`, by their names. The others were trained in full."""
    places = {name: (f"model.{name}.", f"model.alignment.{name.rpartition('.')[2]}.") for name in adapters}
    return {
        name
        for name, adapter in adapters.items()
        if adapter.added and any(w.startswith(places[name]) and adapter.added in w for w in weights)
    }


def refuse_foreign_layers(weights: Collection[str], adapters: Mapping[str, Adapter], source: str) -> None:
    """Raise RequestError where weights hold layers that cannot be merged, of an adapter that this run has not."""
    here = adapted(weights, adapters)
    for found in filter(None, map(_LAYERS.match, weights)):
        part, kind = found[1] or f"encoders.{found[4]}", found[2] or found[3]
        if part in adapters and part not in here:
            key = f"adapter/{part.rpartition('.')[2]}"
            raise RequestError(
                f"{source}: {part} has layers of adapter {kind} there, which cannot be folded into its weights. "
                f"Choose {key}={kind} to go on with them, or start from the run before."
            )
