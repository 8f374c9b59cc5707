"""A run over tasks in sequence: how its steps are shared among them, and what it came to."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from mmexp.continual.measures import summary
from mmexp.data.loaders import sequence_loader
from mmexp.data.loading import Loading
from mmexp.data.orders import AS_IT_IS, SequenceOrder
from mmexp.errors import RequestError
from mmexp.runs.forgetting import Sequence
from mmexp.tasks.continual import ContinualTask
from mmexp.types import Batch, DataSource

MEASURED = ("mean_reciprocal_rank", "accuracy")


def arrange(task: ContinualTask, source: DataSource, train: Any, loading: Loading, metric: str, processes: int) -> Any:
    """Share the task's steps among the tasks of `source`, as many each, and return the loader that goes through them.

    Steps that are left over are not taken; of fewer steps than tasks each is a task's, and the last tasks are not trained.
    Raises RequestError where there are no tasks, one is smaller than a batch, or nothing says what is known of it.
    """
    if not source.tasks:
        raise RequestError(
            "task=continual: this data is no sequence. Choose data=emoji_sequence or data=table_sequence."
        )
    if metric not in MEASURED:
        raise RequestError(
            "task=continual: none of these objectives tells how well a task is known. "
            "Add objective=contrastive, another with a common space, or objective=classify."
        )
    if task.continual.one_process and processes > 1:
        raise RequestError(
            "continual: what this method trains changes with the task, which works in one process alone."
        )
    method, rows = task.continual, list(source.tasks.values())
    task.names, task.metric = list(source.tasks), metric
    # A sequence that time would end is refused.
    whole = task.total_steps or 1
    steps = max(1, whole // len(rows))
    whole = task.total_steps = min(whole, steps * len(rows))
    if method.joint:
        rows, steps = [np.concatenate(rows)], whole
    task.steps_per_task, task.log_every_steps = steps, min(task.log_every_steps, steps)
    for name, own in source.tasks.items():
        if len(own) < loading.batch_size:
            raise RequestError(
                f"data.batch_size={loading.batch_size} is more than the {len(own)} rows of the task '{name}'. "
                f"Set data.batch_size={len(own)} or less."
            )

    def own_rows(number: int, size: int, count: int) -> Iterator[Batch]:
        # A generator of its own: neither the order of a pass nor which rows are kept.
        order = np.random.default_rng((task.seed, number)).permutation(rows[number])
        size = min(size, len(order))
        for start in range(0, size * count, size):
            places = [int(order[place % len(order)]) for place in range(start, start + size)]
            yield train.__getitems__([(row, AS_IT_IS) for row in places])

    task.own_rows = own_rows
    task.order = SequenceOrder(rows, loading.batch_size, task.seed, steps, method.rows_kept, method.share)
    return sequence_loader(train, task.order, loading)


def told(task: ContinualTask) -> Sequence:
    """Return what is known of each task before training and after each; of a joint run after all of them alone."""
    accuracy = np.array([[row[name] for name in task.names] for row in task.measured])
    names = ["all"] if task.continual.joint else task.names
    return Sequence(["untrained", *(f"after {n}" for n in names[: len(accuracy) - 1])], list(task.names), accuracy)


def measures(task: ContinualTask) -> dict[str, float]:
    """Return the flat metrics of the sequence: `after_<i>_<task>` is the accuracy on a task when i of them were trained."""
    whole, joint = told(task).accuracy, task.continual.joint
    trained = [0, len(task.names)] if joint else range(len(whole))
    cells = {
        f"after_{count}_{name}": float(value)
        for count, row in zip(trained, whole, strict=True)
        for name, value in zip(task.names, row, strict=True)
    }
    numbers = {"average_accuracy": float(whole[-1].mean())} if joint else summary(whole[1:], whole[0])
    return {f"continual/{name}": value for name, value in (cells | numbers).items()}
