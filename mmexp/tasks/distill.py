"""Distillation: a frozen teacher shows a student what to see."""

from typing import Any

import torch
from torch import nn

from mmexp.model import Model
from mmexp.tasks.base import Task
from mmexp.types import Batch, Said


class DistillTask(Task):
    """Adds a live teacher, which says of the batch's `teacher` part what the objectives ask for.

    Where none of them asks, there is no teacher, and the run is a plain one.
    """

    has_teacher = True

    def __init__(self, *args: Any, teacher: nn.Module | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # In a plain list the teacher is no submodule: not in state_dict, not in parameters(), not switched by train().
        self._teacher: list[Any] = [teacher.eval().requires_grad_(False)] if teacher else []

    @torch.no_grad()
    def teach(self, batch: Batch) -> Said:
        """Return what the teacher says of this batch, or said of its rows before."""
        if "taught" in batch:
            return batch["taught"]
        return self._teacher[0](batch["teacher"])

    def heard(self, batch: Batch) -> Said:
        """Return what the teacher says, its captions in tokens of the student's text encoder."""
        return retold(self.teach(batch), self._teacher[0], self.model)

    def on_fit_start(self) -> None:
        """Move the teacher to where the student is; Lightning moves submodules only."""
        for teacher in self._teacher:
            teacher.to(self.device)

    on_validation_start = on_fit_start
    on_test_start = on_fit_start


def retold(said: Said, teacher: Any, model: Model) -> Said:
    """Return what a teacher said, with its captions read by its own tokenizer and prepared by the student's."""
    if "captions/ids" not in said:
        return said
    ids = said["captions/ids"]
    prepared = model.encoders["text"].prepare(teacher.decode(ids))
    return {**said, **{f"captions/{name}": tensor.to(ids.device) for name, tensor in prepared.items()}}
