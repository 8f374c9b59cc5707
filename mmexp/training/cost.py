"""What one training step costs, counted on a real batch."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._pytree import tree_map

from mmexp.tasks.balancing import BalancedStep, buffers_kept
from mmexp.tasks.base import Task
from mmexp.tasks.flops import flop_counter
from mmexp.types import Batch


@dataclass(frozen=True)
class StepCost:
    """FLOPs of forward and backward of one step, and the bytes that its saved activations hold."""

    flops: float
    activation_bytes: int


def step_cost(task: Task, batch: Batch) -> StepCost:
    """Run one step, forward and backward, without changing the weights. A multiplication and an addition are two FLOPs.

    Where some rows are encoded at a time, the activations are those that are kept and those of one such piece.
    """
    cost, rows = _cost(task, batch), task.model.rows_at_once
    if rows is None or rows >= len(batch["index"]):
        return cost
    piece = _cost(task, tree_map(lambda tensor: tensor[:rows], batch))
    return replace(cost, activation_bytes=cost.activation_bytes + piece.activation_bytes)


def _cost(task: Task, batch: Batch) -> StepCost:
    held: dict[int, int] = {}

    def hold(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    def give(tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    own = {p.untyped_storage().data_ptr() for p in task.parameters()}
    keeping = torch.autograd.graph.saved_tensors_hooks(hold, give)
    with flop_counter() as counter, keeping, buffers_kept(task):
        losses, _ = task.terms(task.views(batch, 0))
        BalancedStep(task.balance, losses).loss.backward()
        if hasattr(task.balance, "learn"):
            task.values_again(task.views(batch, 0))
    task.zero_grad()
    return StepCost(float(counter.get_total_flops()), sum(size for at, size in held.items() if at not in own))


def in_precision(task: Task, precision: str) -> AbstractContextManager[Any]:
    """Return the context in which a step computes as it does in a training of that precision; it may be entered again."""
    mixed = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    return torch.autocast(task.device.type, mixed) if mixed else nullcontext()


def step_seconds(task: Task, batch: Batch, precision: str, repeats: int = 3) -> float:
    """Return the time of the fastest of some steps, forward and backward, in the run's precision."""
    context, times = in_precision(task, precision), []
    for _ in range(repeats):
        began = time.perf_counter()
        with buffers_kept(task):
            with context:
                losses, _ = task.terms(task.views(batch, 0))
            BalancedStep(task.balance, losses).loss.backward()
        times.append(time.perf_counter() - began)
    task.zero_grad()
    return min(times)
