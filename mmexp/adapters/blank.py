"""A tower tried on a blank input: what of it is reached by gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from mmexp.graph import reached
from mmexp.types import Encoded


def _picture() -> Any:
    from PIL import Image

    return Image.new("RGB", (64, 64))


KINDS = {"image": _picture, "text": lambda: "word", "audio": lambda: (np.ones(8000, dtype=np.float32), 16000)}
"""Of each modality what a tower can be tried on: a blank picture, a word, half a second of sound."""


def encode_blank(tower: Any) -> Encoded:
    """Return the encoding of one blank input, by a tower at rest."""
    with _at_rest(tower):
        return tower(tower.prepare([KINDS[tower.modality]()]))


def unreached(tower: nn.Module) -> list[str]:
    """Return the names of trained weights on which an encoding does not depend: layers that are there and never called."""
    if getattr(tower, "modality", None) not in KINDS:
        return []
    trained = {name: weight for name, weight in tower.named_parameters() if weight.requires_grad}
    if not trained:
        return []
    with torch.enable_grad():
        encoded = encode_blank(tower)
        used = reached(encoded.tokens.sum() + encoded.pooled.sum())
    return [name for name, weight in trained.items() if id(weight) not in used]


@contextmanager
def _at_rest(module: nn.Module) -> Iterator[None]:
    modes = [(inner, inner.training) for inner in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for inner, mode in modes:
            inner.training = mode
