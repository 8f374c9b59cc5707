"""What the outputs of a frozen part depend on, as short digests: weights, settings, code, inputs."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

PACKAGE = Path(__file__).parents[1]
# Whatever turns a sample into an output.
CODE = (
    "adapters",
    "encoders",
    "fusion",
    "objectives",
    "data",
    "augmentations",
    "attention.py",
    "positions.py",
    "transformer_block.py",
    "draws.py",
    "model.py",
    "prefix.py",
    "teacher.py",
)
LIBRARIES = ("torch", "timm", "transformers", "open_clip_torch", "tokenizers", "pillow")
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
        plain = value if isinstance(value, tuple | list) else (value,)
        if name not in _COUNTERS and all(isinstance(v, str | int | float | type(None)) for v in plain):
            yield name, repr(value)


def of_prepared(prepared: Mapping[str, Any]) -> str:
    """Return a digest of a batch's prepared inputs: how pictures were cut, how texts were split, what the files hold."""
    total = sha256()
    for name, value in sorted(prepared.items()):
        total.update(name.encode())
        total.update(of_prepared(value).encode() if isinstance(value, Mapping) else _content(value))
    return total.hexdigest()[:20]


@cache
def of_code() -> str:
    """Return a digest of our code that a sample goes through, and the versions of the libraries below it."""
    total = sha256(repr([version(name) for name in LIBRARIES]).encode())
    for name in CODE:
        path = PACKAGE / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            total.update(file.read_bytes())
    return total.hexdigest()[:20]


def of_source(module: nn.Module) -> str:
    """Return a digest of the files in which the classes of a part stand, a user's own among them."""
    import inspect

    files = {inspect.getfile(type(part)) for part in module.modules()}
    return digest(*(Path(file).read_text() for file in sorted(files)))
