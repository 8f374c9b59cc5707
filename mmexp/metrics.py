"""Every metric that a run reports, and whether more or less of it is better.

A function that computes a metric has its names here. `tests/test_metrics.py` compares this list with what the functions return,
so that no direction is ever guessed from a name.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

# A modality is any name: `image`, `text`, `title`.
_WAY = r"\w+_to_\w+"


@dataclass(frozen=True)
class Metric:
    """One metric, or a family of them.

    Args:
        pattern: a regular expression of its whole name, without the split.
        higher_is_better: None where no value is better than another, as of a temperature or a number of candidates.
    """

    pattern: str
    higher_is_better: bool | None


def _all(higher_is_better: bool | None, *patterns: str) -> list[Metric]:
    return [Metric(pattern, higher_is_better) for pattern in patterns]


METRICS: tuple[Metric, ...] = (
    # tasks/retrieval.py
    *_all(True, rf"{_WAY}_r\d+", "mean_reciprocal_rank"),
    *_all(False, rf"{_WAY}_median_rank"),
    *_all(None, rf"{_WAY}_r\d+_chance", rf"{_WAY}_candidates", "candidates"),
    # tasks/evaluation.py
    *_all(True, "accuracy", "f1_macro", "mean_average_precision", "r2"),
    *_all(False, "mean_absolute_error"),
    # tasks/zero_shot.py
    *_all(True, r"(\w+_)?zero_shot_(accuracy|f1_macro)"),
    *_all(None, r"(\w+_)?zero_shot_accuracy_chance"),
    # tasks/neighbours.py
    *_all(True, r"\w+_neighbour_accuracy"),
    # tasks/captions.py
    *_all(True, "bleu4", "cider"),
    *_all(False, "caption_perplexity"),
    # objectives: losses, and what they report of a batch
    *_all(False, "loss", r"loss_\w+"),
    *_all(True, "matching_accuracy", "teacher_agreement"),
    *_all(None, r"(siglip_)?temperature", "siglip_bias", "sure", r"\w+_ratio"),
    # judging/ranking.py, judging/probing.py
    *_all(True, rf"{_WAY}_map", r"\w+_linear_probe", r"\w+_\d+_shot", r"\w+_knn"),
    *_all(None, r"\w+_\d+_shot_std"),
    *_all(False, r"expected_calibration_error(_with_temperature)?"),
    # judging/space.py: a loss (arXiv:2005.10242), a loss (the same), a distance (arXiv:2203.02053)
    *_all(False, r"\w+_uniformity", r"\w+_alignment", r"\w+_gap"),
    # continual/measures.py
    *_all(True, "average_accuracy", "backward_transfer", "forward_transfer", r"after_\d+_.+"),
    *_all(False, "forgetting"),
    # tasks/base.py, tasks/balancing.py: of a step of training
    *_all(None, "gradient_norm", "skipped", "epoch", "step", r"lr[\w.-]*", r"weight_\w+", r"cosine_\w+"),
)


@cache
def metric_of(name: str) -> Metric | None:
    """Return the metric of a name such as `val/text_to_image_r1`, None where no metric has it."""
    last = name.rpartition("/")[2]
    return next((metric for metric in METRICS if re.fullmatch(metric.pattern, last)), None)


def higher_is_better(name: str) -> bool | None:
    """Return whether more of a metric is better; None where neither more nor less is, or the metric is not known."""
    metric = metric_of(name)
    return None if metric is None else metric.higher_is_better


def best_of(values: Iterable[float], name: str) -> float | None:
    """Return the best of some values of a metric, None where no value is better than another, or there is none."""
    found, higher = list(values), higher_is_better(name)
    return None if higher is None or not found else max(found) if higher else min(found)


def selected_by(name: str, metrics: Iterable[Mapping[str, float]]) -> str:
    """Return the metric by which runs are chosen whose `name` is reported: the same of `val`, where all of them have it.

    What is chosen by a test set is no longer measured by it.
    """
    split, _, last = name.rpartition("/")
    own = f"val/{last}"
    known = list(metrics)
    return own if split not in ("val", "train") and known and all(own in one for one in known) else name
