"""The studies by their names: each a function of a judged model and its data to flat numbers."""

from collections.abc import Callable

from mmexp.data.chosen import ChosenSamples, whole_rows
from mmexp.judging import corruptions, missing, probing, ranking, space
from mmexp.judging.said import Judged, batches_of, captions_of
from mmexp.types import DataSource, Samples

Study = Callable[[Judged, DataSource, str], dict[str, float]]


def _of_set(study: Callable) -> Study:
    return lambda judged, source, split: study(judged, source.splits[split])


def _of_features(study: Callable) -> Study:
    return lambda judged, source, split: study(
        judged, source.splits["train"], source.splits["val"], source.splits[split]
    )


def _contributions(judged: Judged, samples: Samples) -> dict[str, float]:
    """Return those of the rows that have all modalities: subsets are compared on the same rows."""
    whole = whole_rows(samples)
    return missing.contributions(judged, batches_of(judged, ChosenSamples(samples, whole))) if len(whole) else {}


def _missing(judged: Judged, samples: Samples) -> dict[str, float]:
    return missing.told(missing.subsets(judged, batches_of(judged, samples), captions_of(judged, samples)))


STUDIES: dict[str, Study] = {
    "map": _of_set(ranking.precision),
    "groups": lambda judged, source, split: ranking.by_group(judged, source.splits[split], source.classes),
    "linear_probe": _of_features(probing.linear_probe),
    "few_shot": _of_features(probing.few_shot),
    "knn": _of_features(probing.neighbours),
    "calibration": _of_features(probing.calibration),
    "missing": _of_set(_missing),
    "contributions": _of_set(_contributions),
    "space": _of_set(space.geometry),
    "corruptions": _of_set(corruptions.robustness),
}
