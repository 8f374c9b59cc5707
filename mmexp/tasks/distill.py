"""Distillation: a frozen teacher shows a student what to see."""

from typing import Any

import torch
from torch import Tensor, nn

from mmexp.tasks.base import Task
from mmexp.types import Batch


class DistillTask(Task):
    """Adds a live teacher, which maps the batch's `teacher` part to unit vectors (B, D) of every modality."""

    has_teacher = True

    def __init__(self, *args: Any, teacher: nn.Module, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # In a plain list the teacher is no submodule: not in state_dict, not in parameters(), not switched by train().
        self._teacher = [teacher.eval().requires_grad_(False)]

    @torch.no_grad()
    def teach(self, batch: Batch) -> dict[str, Tensor]:
        """Return what the teacher says of this batch, or said of its rows before."""
        if "taught" in batch:
            return batch["taught"]
        return self._teacher[0](batch["teacher"])

    def on_fit_start(self) -> None:
        """Move the teacher to where the student is; Lightning moves submodules only."""
        self._teacher[0].to(self.device)

    on_validation_start = on_fit_start
    on_test_start = on_fit_start
