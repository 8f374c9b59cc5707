"""Numbers gone bad in a step: where, in which rows, and in which layers."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

TOLD = 5
"""How many layers are named."""
ROWS = 8
"""How many rows of the batch are named."""


def refuse_loss(module: nn.Module, numbers: Mapping[str, Tensor], step: int, batch: Mapping[str, Any]) -> None:
    """Raise FloatingPointError where a loss is not finite, with its term, the step, the rows, and the gradients before it."""
    bad = [name for name, value in numbers.items() if not torch.isfinite(value)]
    if not bad:
        return
    # The sum of all is told by its terms.
    terms = [name for name in bad if name != "loss"] or bad
    told = ", ".join(f"{name} is {numbers[name].item()}" for name in terms)
    before = f" Largest gradients of the step before: {largest(module)}." if step else ""
    raise FloatingPointError(f"{told} at step {step}, {rows_of(batch)}.{before} {ADVICE}")


def refuse_gradients(module: nn.Module, step: int, batch: Mapping[str, Any]) -> None:
    """Raise FloatingPointError for gradients that are not finite."""
    raise FloatingPointError(
        f"the gradient is not finite at step {step}, {rows_of(batch)}. Largest by layer: {largest(module)}. {ADVICE}"
    )


ADVICE = "A lower optimizer.lr or optimizer.clip_norm may help; trainer.on_nonfinite=skip leaves such steps out."


def rows_of(batch: Mapping[str, Any]) -> str:
    """Return in words which rows of the train split a batch holds, counted from 0."""
    rows = batch["index"].tolist()
    more = f" and {len(rows) - ROWS} more" if len(rows) > ROWS else ""
    return f"train rows {', '.join(map(str, rows[:ROWS]))}{more}"


def largest(module: nn.Module) -> str:
    """Return in words the layers with the largest gradients, those that are not finite first."""
    norms = {
        name: float(torch.stack([grad.float().norm() for grad in grads]).norm())
        for name, layer in module.named_modules()
        if (grads := [p.grad for p in layer.parameters(recurse=False) if p.grad is not None])
    }
    # NaN is larger than anything.
    order = sorted(norms, key=lambda name: norms[name] if norms[name] == norms[name] else float("inf"), reverse=True)
    return ", ".join(f"{name} {norms[name]:.3g}" for name in order[:TOLD]) or "none"


def gone_bad(task: Any, trained: Iterable[nn.Parameter]) -> None:
    """End the run, or leave the step out: without gradients an optimizer passes over all weights.

    In DDP all processes have the same gradients, and do the same. Raises FloatingPointError.
    """
    if task.on_nonfinite == "stop":
        refuse_gradients(task, task.global_step, task.seen.batch)
    for parameter in trained:
        parameter.grad = None
    task.noted["train/skipped"] = torch.tensor(1.0)
    if task.global_rank == 0:
        told = f"step {task.global_step} was left out, its gradient is not finite: {rows_of(task.seen.batch)}"
        print(f"mmexp: {told}", file=sys.stderr)
