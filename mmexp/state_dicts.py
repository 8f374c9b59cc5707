"""State dicts of pretrained weights: one common prefix removed; what was loaded, missing and unexpected reported."""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

from torch import Tensor, nn

from mmexp.errors import RequestError

StateDict = Mapping[str, Tensor]
_SHOWN = 3
# A weight that torch computes from two others, for example a weight norm, goes by its own name once these are multiplied out.
_PARAMETRIZED = re.compile(r"parametrizations\.(\w+)\.original\d*$")
_COMPILED = "_orig_mod."
_LEAST = 0.25  # of the expected names: fewer agree by chance, such as norm.weight
_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class LoadReport:
    """What `nn.Module.load_state_dict` found.

    Args:
        loaded: the number of tensors that were copied.
        missing: names of the model's tensors that the weights lack.
        unexpected: names in the weights that the model has no tensor for.
        prefix: what was removed from the beginning of every name, empty for nothing.
        given: the state dict, for who tries it under other names.
    """

    loaded: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    prefix: str = ""
    given: StateDict = field(default_factory=dict, repr=False, compare=False)

    def __str__(self) -> str:
        removed = f"; prefix '{self.prefix}' removed" if self.prefix else ""
        return (
            f"{self.loaded} tensors loaded, {_counted(self.missing, 'missing')}, "
            f"{_counted(self.unexpected, 'unexpected')}{removed}"
        )

    def of(self, part: str, names: Collection[str]) -> "LoadReport":
        """Return the report on the submodule `part`, whose state dict has `names`; unexpected names stay those of all."""
        lacking = tuple(name.removeprefix(f"{part}.") for name in self.missing if name.startswith(f"{part}."))
        return replace(self, loaded=len(set(names) - set(lacking)), missing=lacking)

    def require(self, source: str, needed: Collection[str] | None = None) -> None:
        """Raise RequestError where `needed` tensors are missing; without `needed` none may be."""
        lacking = [name for name in self.missing if needed is None or _own_name(name) in needed]
        if lacking:
            raise RequestError(
                f"{source} does not hold the weights of this model: {_counted(lacking, 'missing')}, {self.loaded} loaded, "
                f"{_counted(self.unexpected, 'unexpected')}. Name the model that they were trained as, or other weights."
            )

    def require_equal(self, source: str) -> None:
        """Raise RequestError where tensors are missing or unexpected."""
        self.require(source)
        if self.unexpected:
            raise RequestError(
                f"{source} holds other weights than its configuration has places for: {_counted(self.unexpected, 'unexpected')}."
            )


def _own_name(name: str) -> str:
    return _PARAMETRIZED.sub(r"\1", name)


def _counted(names: Collection[str], what: str) -> str:
    shown = ", ".join(list(names)[:_SHOWN])
    return f"{len(names)} {what}" + (f" ({shown}{', ...' if len(names) > _SHOWN else ''})" if names else "")


def used_names(module: nn.Module) -> set[str]:
    """Return the names of what an encoding depends on: parameters, and the running statistics of batch norms."""
    statistics = {name for name, _ in module.named_buffers() if name.rpartition(".")[2] in _STATISTICS}
    return {name for name, _ in module.named_parameters()} | statistics


def without_prefix(state: StateDict, expected: Collection[str]) -> tuple[dict[str, Tensor], str]:
    """Return `state` without the one prefix below which most `expected` names are, and the prefix; "" where there is none.

    Wrappers put such prefixes there: `module.` (DistributedDataParallel), `_orig_mod.` (torch.compile, inside of names too),
    `model.` and `backbone.` (Lightning and others). Names that do not begin with it stay as they are.

    Raises:
        RequestError: two prefixes fit equally well, such as `student.` and `teacher.`.
    """
    plain = {name.replace(_COMPILED, ""): tensor for name, tensor in state.items()}
    removed = _COMPILED if plain.keys() != state.keys() else ""
    best = _best_prefixes(plain, expected)
    if len(best) > 1:
        both = " and ".join(f"'{prefix}'" for prefix in sorted(best)[:2])
        raise RequestError(
            f"the names below {both} fit this model equally well. Save the weights of one of them alone."
        )
    prefix = best[0] if best else ""
    return {name.removeprefix(prefix): tensor for name, tensor in plain.items()}, removed + prefix


def _best_prefixes(state: StateDict, expected: Collection[str]) -> list[str]:
    """Return the prefixes below which most expected names are, if these are many, and more than are there as they are."""
    counts: dict[str, int] = {}
    for suffix in expected:
        for name in (name for name in state if name.endswith(f".{suffix}")):
            prefix = name.removesuffix(suffix)
            counts[prefix] = counts.get(prefix, 0) + 1
    most = max(counts.values(), default=0)
    as_they_are = sum(name in state for name in expected)
    return (
        [p for p, count in counts.items() if count == most] if most > max(as_they_are, _LEAST * len(expected)) else []
    )


def load(module: nn.Module, state: StateDict, source: str) -> LoadReport:
    """Copy `state` into `module`, one common prefix of its names removed, and return what was found.

    Raises:
        RequestError: a shape differs.
    """
    state, prefix = without_prefix(state, module.state_dict())
    with recorded(source) as reports:
        module.load_state_dict(state)
    return replace(reports[-1], prefix=prefix, given={})


@contextmanager
def recorded(source: str) -> Iterator[list[LoadReport]]:
    """Record within what every `nn.Module.load_state_dict` finds, whichever library calls it.

    Missing and unexpected names are recorded and not refused there: who asked decides. Libraries tell of them by logging at
    most, and in a way of their own each.

    Raises:
        RequestError: a shape differs.
    """
    original, reports = nn.Module.load_state_dict, list[LoadReport]()

    def record(self: nn.Module, state_dict: StateDict, strict: bool = True, **more: Any) -> Any:
        own = self.state_dict()
        refuse_shapes(
            {name: (tensor.shape, state_dict[name].shape) for name, tensor in own.items() if name in state_dict}, source
        )
        found = original(self, state_dict, strict=False, **more)
        missing, unexpected = tuple(found.missing_keys), tuple(found.unexpected_keys)
        reports.append(LoadReport(len(own) - len(missing), missing, unexpected, given=state_dict))
        return found

    with patch.object(nn.Module, "load_state_dict", record):
        yield reports


def refuse_shapes(shapes: Mapping[str, tuple[Any, Any]], source: str) -> None:
    """Raise RequestError for the first tensor whose shape in the model (the first) and in the weights differ."""
    for name, (here, there) in shapes.items():
        if tuple(here) != tuple(there):
            raise RequestError(
                f"{source} does not fit this model: {name} is {tuple(there)} there and {tuple(here)} here. Name the model "
                "that they were trained as, or other weights."
            )
