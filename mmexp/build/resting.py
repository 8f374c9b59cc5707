"""What no loss would move: found by one forward of two rows, and left out of the training."""

from typing import Any

import torch

from mmexp.data.loading import PreparedSamples
from mmexp.graph import reached
from mmexp.tasks.balancing import buffers_kept
from mmexp.tasks.base import Task


def rest_unreached(task: Task, samples: PreparedSamples) -> list[str]:
    """Freeze every weight of model and objectives that no loss depends on.

    Returns the encoders, and the fusion, of which that is true as a whole. So `mae` does not carry a text tower along, and
    processes do not wait for gradients that never come. Weights and the random numbers to come stay as they are.
    `task.reported` then names the losses and numbers of a step.
    """
    batch = samples.__getitems__([(0, 0), (len(samples) - 1, 0)])
    # A modality that these two rows lack, others have.
    batch.pop("present", None)
    # What a balance learns is in none of the losses that it weighs.
    learning = (*task.model.parameters(), *task.objectives.parameters())
    trained = [parameter for parameter in learning if parameter.requires_grad]
    with buffers_kept(task), torch.random.fork_rng(devices=[]):
        losses, numbers = task.terms(task.views(batch, 0))
        used = reached(losses.losses.sum())
    task.reported = list(numbers)
    for parameter in trained:
        parameter.requires_grad_(id(parameter) in used)
    moved = {id(parameter) for parameter in trained}
    parts: dict[str, Any] = {**dict(task.model.encoders.items()), "fusion": task.model.fusion}
    return [name for name, part in parts.items() if _rests(list(part.parameters()), moved)]


def _rests(parameters: list[torch.nn.Parameter], moved: set[int]) -> bool:
    """Say whether some of a part were to be trained, and now none is."""
    asked = [parameter for parameter in parameters if id(parameter) in moved]
    return bool(asked) and not any(parameter.requires_grad for parameter in asked)
