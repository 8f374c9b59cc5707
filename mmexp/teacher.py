"""A frozen model that only shows its embeddings."""

from typing import Any

from torch import Tensor, nn

from mmexp.model import Model
from mmexp.types import Batch


class Teacher(nn.Module):
    """`model` with the `head` of the objective that gave it a common space."""

    def __init__(self, model: Model, head: nn.Module):
        super().__init__()
        self.model, self.head = model, head

    def dims(self) -> dict[str, int]:
        """Return the width of the teacher's space for each modality."""
        heads: Any = self.head.heads
        return {name: layer.out_features for name, layer in heads.items()}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return unit vectors (B, D) of every modality."""
        embed: Any = self.head.embed
        return embed(self.model.encode(batch))
