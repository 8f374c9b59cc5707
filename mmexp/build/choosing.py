"""By which metric a run chooses its best checkpoint: a matter of what it learns."""

from collections.abc import Mapping, Sequence
from pydoc import locate
from typing import Any

import numpy as np

from mmexp.build.making import Config
from mmexp.build.parts import data_source
from mmexp.errors import RequestError
from mmexp.needs import needs_of
from mmexp.types import Samples

# By the method with which an objective shows what it can do.
BEST_BY = {
    "classify": "accuracy",
    "mark": "mean_average_precision",
    "estimate": "mean_absolute_error",
    "generate": "cider",
}


def best_by(encoders: int, objectives: Sequence[Any]) -> str:
    """Return retrieval in a common space, else what the head is for, else the loss. `objectives` are modules or their classes."""
    if encoders > 1 and any(hasattr(objective, "embed") for objective in objectives):
        return "val/mean_reciprocal_rank"
    told = (metric for method, metric in BEST_BY.items() if any(hasattr(one, method) for one in objectives))
    return f"val/{next(told, 'loss')}"


def monitored_by(config: Config) -> str:
    """Return the metric of the run of a configuration, whose data are read for it, and whose model is not built."""
    encoders = [name for name in data_source(config).modalities if isinstance(config["encoder"].get(name), Mapping)]
    return best_by(len(encoders), [locate(node["_target_"]) for node in config["objective"].values()])


def check_best(config: Config, encoders: Sequence[str], metric: str, val: Samples) -> None:
    """Raise RequestError where no row of `val` has what `metric` is told of: a validation would leave it out.

    Of a sum of losses each has to be known: of every modality, and of those together that an objective names.
    """
    known = getattr(val, "present", None) or {}
    there = {name: known.get(name, np.ones(len(val), dtype=bool)) for name in encoders}
    asked = {name: needs_of(node) for name, node in config["objective"].items()}
    wanted: list[list[str]] = []
    if metric == "val/loss":
        wanted = [*([name] for name in encoders), *(sorted(needs & set(encoders)) for needs in asked.values())]
    elif node := _head(config, metric):
        wanted = [sorted({node["source"], *(["text"] if metric == "val/cider" else [])} & set(encoders))]
        if answer := _answers(val, metric):
            _refuse_unless(answer[1], answer[0], metric)
    for names in filter(None, wanted):
        _refuse_unless(np.all([there[name] for name in names], axis=0), " and ".join(names), metric)
    paired = metric == "val/mean_reciprocal_rank" or any("pairs" in needs for needs in asked.values())
    if paired and metric in ("val/mean_reciprocal_rank", "val/loss"):
        _refuse_unless(np.sum(list(there.values()), axis=0) > 1, f"two of {', '.join(encoders)}", metric)
    if metric == "val/mean_reciprocal_rank":
        _refuse_alike(val, there, metric)


def _answers(val: Samples, metric: str) -> tuple[str, np.ndarray] | None:
    """Return in words what is right for a head, and which rows (N,) have it; None for a head that writes texts."""
    number, targets = getattr(val, "number", None), getattr(val, "targets", None)
    nowhere = np.zeros(len(val), dtype=bool)
    return {
        "val/accuracy": ("a label", val.labels >= 0),
        "val/mean_absolute_error": ("a number in the target column", nowhere if number is None else ~np.isnan(number)),
        "val/mean_average_precision": ("any label", nowhere if targets is None else (targets > 0.5).any(1)),
    }.get(metric)


def _refuse_alike(val: Samples, there: Mapping[str, np.ndarray], metric: str) -> None:
    """Raise RequestError where in no two modalities any candidate could be wrong: they are all one item, or one concept."""
    items = getattr(val, "items", None) or {}
    distinct = {name: len(np.unique(items.get(name, np.arange(len(val)))[own])) for name, own in there.items()}
    if len(np.unique(val.concepts)) > 1 and sum(count > 1 for count in distinct.values()) > 1:
        return
    if len(val) == 1:
        raise RequestError(
            f"val is a single row, so that every answer is right and {metric}, which chooses the best checkpoint, cannot be "
            "measured. Set data.val=PATH, a larger data.val_fraction, or checkpoint.monitor=val/loss."
        )
    same = " and ".join(name for name, count in distinct.items() if count < 2) or "concept"
    raise RequestError(
        f"all rows of val have the same {same}, so that every answer is right and {metric}, which chooses the best checkpoint, "
        "cannot be measured. Give val rows that differ, or set checkpoint.monitor=val/loss."
    )


def _head(config: Config, metric: str) -> Config | None:
    """Return the objective whose head a metric is told of: the last one is looked at."""
    methods = [method for method, told in BEST_BY.items() if metric == f"val/{told}"]
    heads = [n for n in config["objective"].values() if methods and hasattr(locate(n["_target_"]), methods[0])]
    return heads[-1] if heads else None


def _refuse_unless(rows: np.ndarray, what: str, metric: str) -> None:
    if not rows.any():
        raise RequestError(
            f"no row of val has {what}, and {metric}, which chooses the best checkpoint, is told of such rows alone. "
            "Add some to val, or set checkpoint.monitor=METRIC."
        )
