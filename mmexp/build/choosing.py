"""By which metric a run chooses its best checkpoint: a matter of what it learns."""

from collections.abc import Mapping, Sequence
from pydoc import locate
from typing import Any

from mmexp.build.making import Config
from mmexp.build.parts import data_source

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
