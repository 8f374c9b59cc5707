"""Self-distillation: a moving average of the run's own model is its teacher (ALBEF, arXiv:2107.07651; BYOL, arXiv:2006.07733)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mmexp.tasks.base import Task
from mmexp.types import Batch, Fraction, Said


class SelfDistill(Task):
    """After each step the teacher becomes `decay` * teacher + (1 - `decay`) * student; running statistics are copied.

    The teacher starts as a copy of the student. It is in the checkpoint, so that `resume` is exact, and in nothing else.
    """

    has_teacher = True
    teaches_itself = True

    def __init__(self, *args: Any, teacher: nn.Module, decay: Fraction = 0.995, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.teacher: Any = teacher.eval().requires_grad_(False)
        self.average = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def teach(self, batch: Batch) -> Said:
        """Return what the average says of the batch that the student sees."""
        return self.teacher(batch)

    heard = teach

    def train(self, mode: bool = True) -> "SelfDistill":
        """Switch the student; the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take the step, and let the teacher follow."""
        super().optimizer_step(*args, **kwargs)
        self.follow()

    @torch.no_grad()
    def follow(self) -> None:
        """Move the teacher towards the student."""
        pairs = [(self.teacher.model, self.model)]
        pairs += [(copy, self.objectives[name]) for name, copy in self.teacher.objectives.items()]
        for copy, own in pairs:
            # Integers, such as how often a batch norm was updated, have no average: buffers are copied.
            for there, here in zip(copy.buffers(), own.buffers(), strict=True):
                there.copy_(here)
            self._move(list(copy.parameters()), list(own.parameters()))

    def _move(self, there: list[Tensor], here: list[Tensor]) -> None:
        if there:
            self.average(there, here, None)
