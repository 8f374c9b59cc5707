"""What the outputs of a frozen part depend on, as short digests: weights, settings, code, inputs."""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmexp import source_closure

# Whose functions turn a sample into an output; one that is not installed has none.
LIBRARIES = (
    *("torch", "torchvision", "torchaudio", "timm", "transformers", "open_clip_torch", "tokenizers", "peft"),
    *("numpy", "pillow", "soundfile", "av"),
)
# Counts what it has seen, and has no part in what it says.
_COUNTERS = ("cut", "training")


def digest(*parts: Any) -> str:
    """Return a short digest of plain values."""
    return sha256(repr(parts).encode()).hexdigest()[:20]


def of_module(module: nn.Module) -> str:
    """Return a digest of everything that a module computes by: weights, buffers, layers and their plain settings."""
    total = sha256(repr(module).encode())
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(_content(tensor))
    for name, part in module.named_modules():
        total.update(repr((name, type(part).__qualname__, sorted(_settings(part)))).encode())
    return total.hexdigest()[:20]


def of_parts(module: nn.Module, names: Sequence[str]) -> str:
    """Return a digest of some inner modules, and of what the modules around them hold and are set to themselves."""
    around = {name for inner in names for name in _around(inner)} - set(names)
    total = sha256(repr([of_module(module.get_submodule(name)) for name in sorted(names)]).encode())
    for name in sorted(around):
        part = module.get_submodule(name)
        total.update(repr((name, type(part).__qualname__, sorted(_settings(part)))).encode())
        for own, tensor in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]:
            total.update(own.encode())
            total.update(_content(tensor))
    return total.hexdigest()[:20]


def _around(name: str) -> list[str]:
    pieces = name.split(".")
    return [".".join(pieces[:i]) for i in range(len(pieces))]


def _content(tensor: Tensor) -> Any:
    """Return the bytes of a tensor, as numpy shares them."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _settings(part: nn.Module) -> Iterator[tuple[str, str]]:
    for name, value in vars(part).items():
        # Private mappings of a module are torch's registers of hooks and of what the state holds.
        registers = name.startswith("_") and isinstance(value, Mapping)
        if name not in _COUNTERS and not registers and _is_plain(value):
            yield name, repr(value)


def _is_plain(value: Any) -> bool:
    """Say whether a setting's `repr` tells all of it: numbers, texts, types of tensors, and what is made of such."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, [*value, *value.values()]))
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, str | int | float | torch.dtype | Path | type(None))


def of_prepared(prepared: Mapping[str, Any]) -> str:
    """Return a digest of a batch's prepared inputs: how pictures were cut, how texts were split, what the files hold."""
    total = sha256()
    for name, value in sorted(prepared.items()):
        total.update(name.encode())
        total.update(of_prepared(value).encode() if isinstance(value, Mapping) else _content(value))
    return total.hexdigest()[:20]


@cache
def of_code() -> str:
    """Return a digest of mmexp's source files that a run imports, and of the versions of the libraries below it."""
    return digest(source_closure.digest(source_closure.own_modules()), [(name, _version(name)) for name in LIBRARIES])


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def of_source(things: Iterable[Any]) -> str:
    """Return a digest of the files in which the classes of some objects stand, and of what these files import.

    Of installed libraries it is the files alone, whose versions stand for the rest.
    """
    classes = {type(one) for one in things}
    files = source_closure.closure(one.__module__ for one in classes if not one.__module__.startswith("mmexp."))
    for one in classes:
        with suppress(TypeError, OSError):  # of a class that was made where there is no file
            files.setdefault(one.__module__, Path(inspect.getfile(one)))
    return source_closure.digest(files)[:20]
