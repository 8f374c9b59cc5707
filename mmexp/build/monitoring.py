"""Which metrics a validation of a run will have, which of them may be monitored, and which way each is better."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from pydoc import locate
from typing import Any

from mmexp.build.making import Config
from mmexp.build.parts import data_source
from mmexp.errors import RequestError, nearest
from mmexp.metrics import higher_is_better, metric_of
from mmexp.tasks.retrieval import RECALLS

# By the method with which an objective shows what it can do.
BY_HEAD = {
    "classify": ("accuracy", "f1_macro"),
    "mark": ("mean_average_precision", "f1_macro"),
    "estimate": ("mean_absolute_error", "r2"),
    "generate": ("caption_perplexity", "bleu4", "cider"),
}


def validated(encoders: Sequence[str], objectives: Sequence[Any], zero_shot: bool) -> list[str]:
    """Return the names of the metrics of a whole validation set, without `val/`; losses are not among them.

    Args:
        encoders: the modalities that are read.
        objectives: modules or their classes.
        zero_shot: whether classes have texts.
    """
    names = [f"{name}_neighbour_accuracy" for name in encoders]
    if any(hasattr(one, "embed") for one in objectives):
        if len(encoders) > 1:
            names.append("mean_reciprocal_rank")
        for query, key in permutations(sorted(encoders), 2):
            names += [f"{query}_to_{key}_{what}" for what in (*(f"r{k}" for k in RECALLS), "median_rank")]
        others = [name for name in encoders if name != "text"]
        fronts = ["zero_shot"] if len(others) == 1 else [f"{name}_zero_shot" for name in others]
        names += [f"{front}_{what}" for front in fronts for what in ("accuracy", "f1_macro") if zero_shot]
    return names + [n for head, told in BY_HEAD.items() if any(hasattr(o, head) for o in objectives) for n in told]


def check_monitor(
    key: str, metric: str, known: Iterable[str], losses: Iterable[str] | None, own: Mapping[str, bool]
) -> str:
    """Return `min` or `max`, the better end of a metric that a key names.

    Args:
        key: the key, for the message.
        metric: its value, such as `val/loss`.
        known: the metrics of a validation, without `val/`.
        losses: losses and numbers of a batch by name; None where they are not known yet, so that every loss passes.
        own: directions that objectives declare of metrics of their own, by name.

    Raises:
        RequestError: no validation has the metric, or no value of it is better than another.
    """
    split, _, name = metric.rpartition("/")
    names = [*known, *(losses if losses is not None else ["loss"])]
    open_ = losses is None and name.startswith("loss_")
    if split != "val" or not (name in names or open_):
        there = [f"val/{one}" for one in names]
        raise RequestError(f"{key}={metric}: no validation of this run measures it.{nearest(metric, there)}")
    higher = own.get(name, higher_is_better(name))
    if higher is None:
        why = (
            "no value of it is better than another"
            if metric_of(name)
            else "its objective does not say which way it is better"
        )
        raise RequestError(f"{key}={metric}: {why}. Choose another metric, such as val/loss.")
    return "max" if higher else "min"


def check_searched(config: Config, key: str, metric: str) -> str:
    """Return `min` or `max` for the metric of a search, by the configuration of one of its runs; no model is built.

    Raises RequestError as `check_monitor`.
    """
    encoders = [name for name in data_source(config).modalities if isinstance(config["encoder"].get(name), Mapping)]
    classes = [locate(node["_target_"]) for node in config["objective"].values()]
    return check_monitor(key, metric, validated(encoders, classes, bool(config["prompts"])), None, declared(classes))


def declared(objectives: Iterable[Any]) -> dict[str, bool]:
    """Return by metric whether more is better, as objectives declare it of their own in `higher_is_better`."""
    found: dict[str, bool] = {}
    for one in objectives:
        found |= getattr(one, "higher_is_better", {})
    return found
