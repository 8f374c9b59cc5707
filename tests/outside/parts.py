"""Parts of a user's own package: a fusion, and data of coloured squares with their names."""

import numpy as np
import torch
from PIL import Image
from torch import nn

from mmexp.data.chosen import ChosenSamples
from mmexp.data.sequence import in_sequence
from mmexp.types import DataSource, Encoded, PositiveFloat

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "yellow": (255, 255, 0),
    "pink": (255, 0, 255),
    "cyan": (0, 255, 255),
}


class AddedFusion(nn.Module):
    """Adds up the projected pooled encodings."""

    def __init__(self, dims, dim: int = 8):
        super().__init__()
        self.dim = dim
        self.project = nn.ModuleDict({name: nn.Linear(size, dim) for name, size in dims.items()})

    def forward(self, encoded):
        pooled = sum(self.project[name](e.pooled) for name, e in encoded.items())
        return Encoded(pooled[:, None], pooled, torch.ones(len(pooled), 1, dtype=torch.bool))


def greedy(parameters, lr: PositiveFloat):
    """Return plain SGD, whose buffers do not fit into memory for one learning rate."""
    if lr == 0.5:
        torch.empty(10**14)
    return torch.optim.SGD(parameters, lr=lr)


class Squares:
    """Rows of one split: each colour `copies` times, a little lighter or darker each time."""

    def __init__(self, copies: int, shift: int):
        self.names = [name for name in COLOURS for _ in range(copies)]
        self.shift = shift
        self.concepts = np.arange(len(self.names)) // copies
        self.labels = self.concepts % 2

    def __len__(self):
        return len(self.names)

    def read(self, row, modality, rng=None):
        if modality == "text":
            return self.names[row]
        moved = self.shift + 3 * (row % 4)
        colour = tuple(min(255, max(0, channel - moved if channel else moved)) for channel in COLOURS[self.names[row]])
        return Image.new("RGB", (8, 8), colour)

    def where(self, row):
        return f"squares row {row}"


def squares_sequence() -> DataSource:
    """Two tasks: the first four colours, then the other four."""
    whole, shifted, rows = Squares(4, 0), Squares(2, 20), np.arange(32)
    return in_sequence(
        {"first": ChosenSamples(whole, rows[:16]), "second": ChosenSamples(whole, rows[16:])},
        {"first": ChosenSamples(shifted, rows[:8]), "second": ChosenSamples(shifted, rows[8:16])},
        ("image", "text"),
        ("even", "odd"),
        "squares",
    )


def squares(copies: int = 4) -> DataSource:
    splits = {"train": Squares(copies, 0), "val": Squares(1, 20), "test": Squares(1, 40)}
    return DataSource(splits, ("image", "text"), ("even", "odd"), "squares")
