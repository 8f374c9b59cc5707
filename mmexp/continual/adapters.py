"""An adapter for each task on a trunk that the first task trained."""

from typing import Any

import torch
from torch import nn

from mmexp.continual.plain import Plain
from mmexp.errors import RequestError
from mmexp.step import Learner


class Adapters(Plain):
    """The first task trains the model; each later one trains `adapter`'s layers and heads of its own, the rest is frozen.

    A task is measured with its own layers and heads, so that the task of a row must be known: others forget less because
    they are told more. A task not yet seen is measured with those of the task under way.
    """

    one_process = True

    def __init__(self, *, adapter: Any):
        super().__init__()
        if not adapter.added:
            raise RequestError(
                f"continual.adapter: {type(adapter).__name__} adds no layers that a task could have of its own. Choose lora."
            )
        self.added: str = adapter.added

    def open(self, number: int, learner: Learner) -> None:
        """Train all but the adapters first, then adapters and heads."""
        for name, parameter in learner.named_parameters():
            parameter.requires_grad_((number == 0) != (self.added in name) or name.startswith("objectives."))

    def begin(self, number: int, learner: Learner) -> None:
        """Start from the first task: its heads, and adapters that change nothing."""
        self._load(0, learner)

    def measure(self, number: int, learner: Learner) -> None:
        """Keep the layers and heads of the task under way."""
        self.kept |= {f"{number}/{name}": tensor.detach().clone() for name, tensor in self._own(learner).items()}

    def finish(self, number: int, learner: Learner, batches: Any) -> None:
        """Keep them."""
        self.measure(number, learner)

    def look(self, asked: int, number: int, learner: Learner) -> None:
        """Take the layers and heads of task `asked`, where it was trained."""
        self._load(min(asked, number), learner)

    def _load(self, number: int, learner: Learner) -> None:
        with torch.no_grad():
            for name, parameter in self._own(learner).items():
                parameter.copy_(self.kept[f"{number}/{name}"])

    def _own(self, learner: Learner) -> dict[str, nn.Parameter]:
        """Return what each task has of its own."""
        return {n: p for n, p in learner.named_parameters() if self.added in n or n.startswith("objectives.")}
