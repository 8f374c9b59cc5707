"""Elastic weight consolidation (arXiv:1612.00796), in its online form (arXiv:1805.06370)."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from mmexp.continual.plain import Batches, Plain
from mmexp.step import Learner, Views
from mmexp.types import Batch, Fraction, NonNegativeFloat, PositiveInt


def fisher_diagonal(
    parameters: dict[str, nn.Parameter], loss: Callable[[Batch], Tensor], batches: Iterable[Batch], rows: int
) -> dict[str, Tensor]:
    """Return `rows` times the mean square of the gradient of `loss`, a mean over a batch's `rows` rows, by parameter.

    With one row a batch this is the diagonal of the empirical Fisher information. With more it estimates the same where
    gradients of rows are independent and their mean is zero, as after training: contrastive losses need other rows.
    """
    total = {name: torch.zeros_like(parameter, dtype=torch.float32) for name, parameter in parameters.items()}
    count = 0
    for batch in batches:
        found = torch.autograd.grad(loss(batch), list(parameters.values()), allow_unused=True, materialize_grads=True)
        for name, gradient in zip(parameters, found, strict=True):
            total[name] += gradient.float().square()
        count += 1
    return {name: rows * summed / count for name, summed in total.items()}


class EWC(Plain):
    """Weights that mattered to earlier tasks are held where they are: strength / 2 * sum of F (w - w*)^2.

    w* are the weights after the last task. F is a sum over tasks in which earlier ones count by `decay` to the number of
    tasks since (1: all alike), so that the memory does not grow. It is estimated on `batches` batches of `rows` rows.
    """

    adds_losses = True

    def __init__(
        self,
        *,
        strength: NonNegativeFloat = 200.0,
        decay: Fraction = 1.0,
        rows: PositiveInt = 32,
        batches: PositiveInt = 32,
    ):
        super().__init__()
        self.strength, self.decay, self.rows, self.batches = strength, decay, rows, batches

    def finish(self, number: int, learner: Learner, batches: Batches) -> None:
        """Add the task's Fisher information to that of the ones before, and remember the weights."""
        parameters = _trained(learner)
        fisher = fisher_diagonal(parameters, learner.loss, batches(self.rows, self.batches), self.rows)
        for name, parameter in parameters.items():
            if (before := self.kept.get(f"fisher/{name}")) is not None:
                fisher[name] += self.decay * before.to(parameter.device)
            self.kept[f"fisher/{name}"] = fisher[name]
            self.kept[f"anchor/{name}"] = parameter.detach().clone()

    def losses(self, learner: Learner, views: Views) -> dict[str, Tensor]:
        """Return the penalty for leaving the weights of the tasks before."""
        each = [
            (
                self.kept[f"fisher/{name}"].to(parameter.device) * (parameter - self._anchor(name, parameter)).square()
            ).sum()
            for name, parameter in _trained(learner).items()
        ]
        return {"ewc": self.strength / 2 * torch.stack(each).sum()}

    def _anchor(self, name: str, parameter: nn.Parameter) -> Tensor:
        return self.kept[f"anchor/{name}"].to(parameter.device)


def _trained(learner: Learner) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in learner.named_parameters() if parameter.requires_grad}
