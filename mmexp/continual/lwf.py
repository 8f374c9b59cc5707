"""Learning without forgetting (arXiv:1606.09282): the model as it was before a task teaches it on the task's own rows."""

from copy import deepcopy
from itertools import permutations
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmexp.continual.plain import Plain
from mmexp.step import Learner, Views
from mmexp.types import NonNegativeFloat, PositiveFloat


def divergence(ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
    """Return the mean over rows of KL(theirs || ours) of the softmax of both `(B, C)` at `temperature`, times its square."""
    ours, theirs = (F.log_softmax(logits.float() / temperature, -1) for logits in (ours, theirs))
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * temperature**2


class LwF(Plain):
    """Keeps what the earlier model says: class logits at `temperature`, and the similarities within a batch.

    Similarities are those of each modality's rows to the rows of every other one, softened by `similarity_temperature`.
    """

    adds_losses = True

    def __init__(
        self,
        *,
        strength: NonNegativeFloat = 1.0,
        temperature: PositiveFloat = 2.0,
        similarity_temperature: PositiveFloat = 0.1,
    ):
        super().__init__()
        self.strength, self.temperature = strength, temperature
        self.similarity_temperature = similarity_temperature
        # In a plain list the earlier model is no submodule: neither trained nor switched by train().
        self._before: list[Any] = []

    def begin(self, number: int, learner: Learner) -> None:
        """Remember the model as it is."""
        self.kept = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
        self._before = []

    def losses(self, learner: Learner, views: Views) -> dict[str, Tensor]:
        """Return how far the model left what it said before."""
        with torch.no_grad():
            before = self.before(learner)
            theirs = before.said(before.again(views.batch))
        return {"lwf": self.strength * self.distance(learner.said(views), theirs)}

    def before(self, learner: Learner) -> Any:
        """Return the frozen model of the tasks before."""
        if not self._before:
            copied: Any = deepcopy(learner)
            copied.eval().requires_grad_(False)
            copied.load_state_dict(self.kept)
            self._before = [copied]
        return self._before[0]

    def distance(self, ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> Tensor:
        """Return the sum over heads, for similarities the mean over both directions of all pairs of modalities."""
        found = [divergence(ours[name], theirs[name], self.temperature) for name in ours if name.startswith("logits/")]
        vectors = [name for name in ours if name.startswith("vector/")]
        pairs = [
            divergence(ours[a] @ ours[b].T, theirs[a] @ theirs[b].T, self.similarity_temperature)
            for a, b in permutations(vectors, 2)
        ]
        return torch.stack(found + ([torch.stack(pairs).mean()] if pairs else [])).sum()
