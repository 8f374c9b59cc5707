"""Answers to wrong names, short even where thousands would be right."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

from mmexp.errors import RequestError, nearest


def nearest_of_many(name: str, names: Iterable[str], where: str) -> str:
    """Return ` Did you mean 'x'?`, or where to look the names up where none is near."""
    found = nearest(name, names)
    return found if found.startswith(" Did you mean") else f" See {where}."


def first_line(error: Exception) -> str:
    """Return what an error says, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Within, options that a library cannot do with are refused in one line: `what`, and what it said of them."""
    try:
        yield
    except RequestError:
        raise
    except Exception as error:  # of wrong options libraries raise whatever they come upon
        raise RequestError(f"{what}: {first_line(error)}") from error


def dense_convolutions(module: nn.Module) -> Iterator[str]:
    """Return the names of convolutions that mix channels and see features, not pixels: those worth adapting.

    Not that of MobileNetV3's head, whose weight timm takes without calling it.
    """
    for name, layer in module.named_modules():
        adapts = isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.in_channels > 3
        if adapts and name.rpartition(".")[2] != "conv_head":
            yield name
