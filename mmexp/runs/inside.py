"""What the report shows of the inside of a model: where answers come from, what modalities bring, the common space."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

from mmexp.data.chosen import whole_rows
from mmexp.data.orders import AS_IT_IS
from mmexp.judging.looking import look
from mmexp.judging.missing import contributions
from mmexp.judging.said import Judged
from mmexp.runs.gallery import spread
from mmexp.runs.looks import shown_looks
from mmexp.runs.report import Gallery
from mmexp.runs.space import space_of
from mmexp.tasks.base import Task
from mmexp.types import Batch, DataSource

Evaluations = Mapping[str, DataLoader[Batch]]
LOOKS = 6
ROWS, BATCH = 256, 64  # of which contributions are told


def look_inside(gallery: Gallery, task: Task, source: DataSource, evaluations: Evaluations) -> None:
    """Add what is told of `test`, where it was evaluated; where answers come from, of rows that have all modalities.

    In `evaluations` rows are as encoders read them, with what is kept of frozen ones.
    """
    if "test" not in task.gathered:
        return
    gathered, samples = task.gathered["test"], source.splits["test"]
    judged = Judged("", task.model.of(source.modalities), dict(task.objectives.items()))
    if len(whole := torch.from_numpy(whole_rows(samples))):
        gallery.looks = shown_looks(look(judged, samples, spread(whole, LOOKS)), source.classes)
        if getattr(judged.first_with("classify"), "source", None) == "fused":
            prepared: Any = evaluations["test"].dataset
            places = [(row, AS_IT_IS) for row in spread(whole, ROWS)]
            batches = (prepared.__getitems__(places[i : i + BATCH]) for i in range(0, len(places), BATCH))
            gallery.contributions = contributions(judged, batches)
    if vectors := gathered.below("vector/"):
        gallery.space = space_of("test", vectors, gathered.below("present/"))
