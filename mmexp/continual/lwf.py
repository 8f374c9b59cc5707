"""Learning without forgetting (arXiv:1606.09282): the model as it was before a task teaches it on the task's own rows."""

from collections.abc import Callable
from copy import deepcopy
from itertools import permutations
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmexp.continual.plain import Plain
from mmexp.step import Learner, Views
from mmexp.types import NonNegativeFloat, PositiveFloat

Gather = Callable[[Tensor], Tensor]


def divergence(ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
    """Return the mean over rows of KL(theirs || ours) of the softmax of both `(B, C)` at `temperature`, times its square."""
    ours, theirs = (F.log_softmax(logits.float() / temperature, -1) for logits in (ours, theirs))
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * temperature**2


class LwF(Plain):
    """Distillation from the model as it was before a task, on the task's own rows (knowledge distillation, arXiv:1503.02531).

    Both models' logits are softened by one `temperature` and their divergence is multiplied by its square, so that gradients
    keep their size. Logits are those of classes and, in a common space, each modality's rows against the rows of every other
    one: cosine similarities times the model's own logit scale. A space without one (`triplet`, `margin`) is given
    1 / `similarity_temperature`.

    Args:
        strength: The weight of the loss beside those of the objectives (the paper's lambda, 1).
        temperature: The paper's T, 2.
        similarity_temperature: Of cosine similarities in a space that has no logit scale.
    """

    adds_losses = True

    def __init__(
        self,
        *,
        strength: NonNegativeFloat = 1.0,
        temperature: PositiveFloat = 2.0,
        similarity_temperature: PositiveFloat = 0.07,
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
        """Return the distillation loss."""
        with torch.no_grad():
            before = self.before(learner)
            theirs = before.said(before.again(views.batch))
        return {"lwf": self.strength * self.distance(learner.said(views), theirs, views.gather)}

    def before(self, learner: Learner) -> Any:
        """Return the frozen model of the tasks before."""
        if not self._before:
            copied: Any = deepcopy(learner)
            copied.eval().requires_grad_(False)
            copied.load_state_dict(self.kept)
            self._before = [copied]
        return self._before[0]

    def distance(self, ours: dict[str, Tensor], theirs: dict[str, Tensor], gather: Gather) -> Tensor:
        """Return the divergence of the two models' logits.

        Args:
            ours: What `Learner.said` returns of the model that is trained.
            theirs: The same of the model before the task.
            gather: Returns the rows of all processes.

        Returns:
            The sum over class heads, plus the mean over both directions of all pairs of modalities, a scalar.
        """
        found = [divergence(ours[name], theirs[name], self.temperature) for name in ours if name.startswith("logits/")]
        vectors = [name for name in ours if name.startswith("vector/")]
        pairs = []
        for a, b in permutations(vectors, 2):
            own, before = (self._similarities(said, a, b, gather) for said in (ours, theirs))
            pairs.append(divergence(own, before, self.temperature))
        return torch.stack(found + ([torch.stack(pairs).mean()] if pairs else [])).sum()

    def _similarities(self, said: dict[str, Tensor], a: str, b: str, gather: Gather) -> Tensor:
        """Return the logits (B, K) of this process's rows of one modality against all rows of another."""
        return said.get("scale", 1 / self.similarity_temperature) * (said[a] @ gather(said[b]).T)
