"""One combination: built and trained for two steps, or refused. Anything else is a fault."""

import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmexp.compose import compose, resolved
from mmexp.config import check
from mmexp.errors import RequestError
from mmexp.experiment import prepare
from mmexp.request import Request
from mmexp.tasks.balancing import BalancedStep
from mmexp.tasks.base import Task


class Fault(Exception):
    """What a combination did that none may do."""


@dataclass(frozen=True)
class Outcome:
    """What became of one combination. `told` is why it was refused, or what went wrong; `losses` those of its two steps.

    One is `mended` where it trained after a refusal that named a part which the adapter does not fit was followed.
    """

    chosen: Mapping[str, str]
    overrides: Sequence[str]
    kind: Literal["trained", "mended", "refused", "fault"]
    told: str = ""
    losses: Sequence[float] = ()

    @property
    def fell(self) -> bool:
        """Whether the second loss is less than the first."""
        return bool(self.losses) and self.losses[-1] < self.losses[0]


def attempt(chosen: Mapping[str, str], overrides: Sequence[str], directory: Path) -> Outcome:
    """Build what `overrides` ask for and train two steps on one batch.

    Where the adapter does not fit a part, and the refusal names others, the first of these is tried.
    """
    first = _attempt(chosen, overrides, directory)
    last = first
    while last.kind == "refused" and (advised := _advised(last)):
        last = _attempt(chosen, [*last.overrides, advised], directory)
    if last is first or last.kind == "fault":
        return last
    return replace(last, kind="mended", told=first.told) if last.kind == "trained" else last


def _attempt(chosen: Mapping[str, str], overrides: Sequence[str], directory: Path) -> Outcome:
    try:
        return Outcome(chosen, overrides, "trained", losses=two_steps(*built(overrides, directory)))
    except RequestError as error:
        told = str(error)
        return Outcome(chosen, overrides, "fault" if "\n" in told else "refused", told)
    except Exception:
        return Outcome(chosen, overrides, "fault", traceback.format_exc())


def _advised(refused: Outcome) -> str | None:
    """Return the override that the refusal of an adapter advises, None where there is none, or the part had one before."""
    found = re.search(r"Choose (adapter/\w+)=(\w+)", refused.told)
    tried = found and any(override.startswith(f"{found[1]}=") for override in refused.overrides)
    return f"{found[1]}={found[2]}" if found and not tried else None


def built(overrides: Sequence[str], directory: Path) -> tuple[Task, Any]:
    """Return the task that `overrides` ask for, and its first batch. Raises RequestError."""
    plain, choices = resolved(compose(overrides))
    check(plain, choices)
    experiment = prepare(Request(plain, directory, choices, list(overrides)))
    batch = next(iter(experiment.train))
    return experiment.task, experiment.keeping.served(batch) if experiment.keeping else batch


def two_steps(task: Task, batch: Any) -> list[float]:
    """Return the losses of two steps on the same batch. Raises Fault for what is not finite, and for gradients out of place."""
    task.train()
    task.on_train_start()
    optimizer = task.configure_optimizers()["optimizer"]
    resting = {name: tensor.clone() for name, tensor in _resting(task)}
    losses = []
    for step in range(2):
        torch.manual_seed(step)
        terms, numbers = task.terms(task.views(batch, step))
        balanced = BalancedStep(task.balance, terms)
        balanced.loss.backward()
        balanced.after_backward()
        losses.append(float(numbers["loss"]))
        _check_gradients(task)
        optimizer.step()
        optimizer.zero_grad()
    moved = [name for name, tensor in _resting(task) if not _same(tensor, resting[name])]
    if moved:
        raise Fault(f"frozen, and changed: {', '.join(moved[:3])} ({len(moved)} in all)")
    if not all(map(torch.isfinite, map(torch.tensor, losses))):
        raise Fault(f"losses that are not finite: {losses}")
    return losses


def _resting(task: Task) -> Iterator[tuple[str, Tensor]]:
    """Yield what no step may change: frozen parameters, and the buffers of encoders and fusion that are frozen whole."""
    for name, parameter in task.named_parameters():
        if not parameter.requires_grad:
            yield name, parameter.detach()
    parts: list[tuple[str, nn.Module]] = [*task.model.encoders.named_children(), ("fusion", task.model.fusion)]
    for part, module in parts:
        if not any(parameter.requires_grad for parameter in module.parameters()):
            yield from ((f"{part}.{name}", buffer) for name, buffer in module.named_buffers())


def _check_gradients(task: Task) -> None:
    """Raise Fault where a trained parameter has no gradient, or one that is not finite."""
    trained = [(name, p.grad) for name, p in task.named_parameters() if p.requires_grad]
    lacking = [name for name, gradient in trained if gradient is None]
    if lacking:
        raise Fault(f"trained, and without a gradient: {', '.join(lacking[:3])} ({len(lacking)} in all)")
    wrong = [name for name, gradient in trained if gradient is not None and not gradient.isfinite().all()]
    if wrong:
        raise Fault(f"gradients that are not finite: {', '.join(wrong[:3])} ({len(wrong)} in all)")
    reached = any(gradient is not None and gradient.any() for _, gradient in trained)
    if not reached:
        raise Fault("every gradient is zero")


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other) or bool(one.isnan().all() and other.isnan().all())
