"""Where in a tower an adapter may sit, found by its structure: blocks, what stands behind them, the ends of MLPs."""

import re
from collections.abc import Iterator

from torch import nn

from mmexp.errors import RequestError

Named = dict[str, nn.Module]
_CONTAINERS = (nn.ModuleList, nn.Sequential)


def key_of(part: str) -> str:
    """Return how the command line chooses an adapter for a part: `encoders.image` -> `adapter/image`."""
    return f"adapter/{part.rpartition('.')[2]}"


def instead(part: str, module: nn.Module) -> str:
    """Return which adapters such a part does take, as the last words of a refusal."""
    takes = {
        "lora": any(isinstance(layer, nn.Linear | nn.Conv2d) for layer in module.modules()),
        "bottleneck": bool(mlp_ends(module)),
        "bitfit": any(is_bias(name) for name, _ in module.named_parameters()),
    }
    names = [name for name, can in takes.items() if can]
    return f"Choose {key_of(part)}={', '.join([*names, 'full'])} or frozen."


def blocks_of(module: nn.Module) -> Named:
    """Return the blocks of a tower by their names, in the order in which they are passed; empty where there are none.

    Blocks are the children, all of one class and none of them a single layer, of a list or sequence; where such lists lie in
    each other, as the stages of Swin or a ResNet hold its blocks, those of the innermost.
    """
    lists = [(name, series) for name, series in module.named_modules() if _holds_blocks(series)]
    inner = [one for one in lists if not any(other.startswith(_below(one[0])) for other, _ in lists)]
    return {f"{_below(name)}{child}": block for name, series in inner for child, block in series.named_children()}


def _holds_blocks(module: nn.Module) -> bool:
    children = list(module.children()) if isinstance(module, _CONTAINERS) else []
    return bool(children) and len({type(child) for child in children}) == 1 and all(map(_is_block, children))


def _is_block(module: nn.Module) -> bool:
    layers = (inner for inner in module.children() if any(True for _ in inner.parameters()))
    return not isinstance(module, _CONTAINERS) and sum(1 for _ in layers) > 1


def _below(name: str) -> str:
    return f"{name}." if name else ""


def need_blocks(part: str, module: nn.Module) -> Named:
    """Return the blocks. Raises RequestError where there are none."""
    blocks = blocks_of(module)
    if not blocks:
        raise RequestError(
            f"{key_of(part)}: {part} ({type(module).__name__}) has no blocks for this adapter. {instead(part, module)}"
        )
    return blocks


def behind_blocks(module: nn.Module) -> Named:
    """Return the layers behind the last block: norms, and what projects from there."""
    last = next(reversed(blocks_of(module)))
    names = [name for name, _ in module.named_modules()]
    begun = names.index(last)
    later = {name for name in names[begun + 1 :] if not name.startswith(f"{last}.")}
    found = {name: layer for name, layer in module.named_modules() if name in later}
    return {name: layer for name, layer in found.items() if isinstance(layer, nn.Linear | nn.Conv2d) or is_norm(layer)}


def is_norm(layer: nn.Module) -> bool:
    """Say whether a layer normalises: libraries have classes of their own for it."""
    return "norm" in type(layer).__name__.lower()


def is_bias(name: str) -> bool:
    """Say whether a parameter of that name is a bias; those of recurrent layers are called `bias_ih_l0` and the like."""
    return re.search(r"bias(_[ih]h_l\d+(_reverse)?)?$", name) is not None


def mlp_ends(module: nn.Module) -> Named:
    """Return the Linear layers that end the MLPs of the blocks: those that narrow, to the width of the tokens.

    That is the width of a block's first norm: the small MLP of Swin v2 that tells places ends in one number for each head.
    """
    blocks = blocks_of(module)
    widths = {name: _first_norm(block) for name, block in blocks.items()}
    return {
        f"{name}.{inner}": layer
        for name, block in blocks.items()
        for inner, layer in _linear(block)
        if layer.in_features > layer.out_features and widths[name] in (None, layer.out_features)
    }


def _first_norm(block: nn.Module) -> int | None:
    weights = (getattr(layer, "weight", None) for layer in block.modules() if is_norm(layer))
    return next((len(weight) for weight in weights if weight is not None), None)


def _linear(block: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    return ((name, layer) for name, layer in block.named_modules() if isinstance(layer, nn.Linear))


# As they are called in our own blocks, timm, and the models of transformers; the fused ones hold the queries too.
KEYS_AND_VALUES = re.compile(
    r"(.*\.)?(qkv|kv|k|v|Wqkv|query_key_value|key|value|key_proj|value_proj|k_proj|v_proj|k_lin|v_lin)"
)


def keys_and_values(module: nn.Module) -> Named:
    """Return the Linear layers of the blocks that make keys and values, by their names."""
    return {
        f"{name}.{inner}": layer
        for name, block in blocks_of(module).items()
        for inner, layer in _linear(block)
        if KEYS_AND_VALUES.fullmatch(inner)
    }


def last_blocks(part: str, module: nn.Module, k: int, key: str) -> Named:
    """Return the last `k` blocks, as `adapter.<key>` asks. Raises RequestError where there are none, or not so many."""
    blocks = need_blocks(part, module)
    if k > len(blocks):
        raise RequestError(
            f"{key_of(part)}: {key}={k}, and {part} has {len(blocks)} blocks. Set {key_of(part).replace('/', '.')}.{key} "
            f"with the adapter chosen for this tower ({key_of(part)}=...), or choose {key_of(part)}=full."
        )
    return dict(list(blocks.items())[-k:])


def targets_of(part: str, module: nn.Module, pattern: str | None, last: int | None = None) -> Named:
    """Return the layers that `pattern` names (a regular expression), without one those that the part names itself.

    Of a part that names none, all Linear layers; with `last` those in the last so many blocks. Raises RequestError where
    nothing matches.
    """
    within = tuple(f"{block}." for block in last_blocks(part, module, last, "last")) if last else ("",)
    pattern = pattern or getattr(module, "adapter_targets", None)
    known: Named = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.MultiheadAttention)
    }
    found = {
        name: layer
        for name, layer in known.items()
        if name.startswith(within)
        if (re.fullmatch(pattern, name) if pattern else isinstance(layer, nn.Linear))
    }
    if not found:
        there = f"Its layers are: {', '.join(list(known)[:6])}{', ...' if len(known) > 6 else ''}"
        raise RequestError(
            f"adapter.targets: '{pattern}' matches no layer of {part}. {there}"
            if known
            else f"{key_of(part)}: {part} has no layer that this adapter may wrap. {instead(part, module)}"
        )
    return found


def own(module: nn.Module, kind: str, layers: nn.Module) -> None:
    """Give a tower layers of its own, whose weights are named `adapter.<kind>...`."""
    module.add_module("adapter", nn.ModuleDict({kind: layers}))
