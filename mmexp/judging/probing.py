"""What features are good for: a linear probe, few labelled rows, nearest neighbours, and how far probabilities can be trusted."""

import warnings
from typing import Any

import numpy as np
import torch

from mmexp.judging.said import Judged, gather
from mmexp.types import Samples

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
SHOTS, DRAWS, NEIGHBOURS, BINS = (1, 2, 4, 8, 16), 5, 20, 15


def _features(judged: Judged, samples: Samples) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the pooled features (N, D) of each modality, of unit length, and labels (N,), of the labelled rows."""
    gathered = gather(judged, samples)
    label, present = gathered.stacked()["label"], gathered.below("present/")
    kept = label >= 0
    for there in present.values():
        kept &= there.bool()
    pooled = gathered.below("pooled/")
    return {n: torch.nn.functional.normalize(t[kept].float(), dim=1).numpy() for n, t in pooled.items()}, label[
        kept
    ].numpy()


def _fitted(rows: np.ndarray, label: np.ndarray, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # Where it has not converged in so many steps it is as good as it gets.
        warnings.simplefilter("ignore")
        return LogisticRegression(C=strength * len(rows) / 100, max_iter=300).fit(rows, label)


def linear_probe(judged: Judged, train: Samples, val: Samples, test: Samples) -> dict[str, float]:
    """Return `<m>_linear_probe`: the accuracy of a logistic regression on frozen features, its strength chosen on `val`."""
    (rows, label), (val_rows, val_label), (test_rows, test_label) = (
        _features(judged, one) for one in (train, val, test)
    )
    told = {}
    for name in rows if len(set(label)) > 1 else ():
        fitted = [_fitted(rows[name], label, strength) for strength in STRENGTHS]
        best = max(fitted, key=lambda one: one.score(val_rows[name], val_label))
        told[f"{name}_linear_probe"] = float(best.score(test_rows[name], test_label))
    return told


def few_shot(judged: Judged, train: Samples, val: Samples, test: Samples) -> dict[str, float]:
    """Return `<m>_<k>_shot` and its deviation `<m>_<k>_shot_std`: the same of k rows a class, over five draws of them."""
    (rows, label), (test_rows, test_label) = (_features(judged, one) for one in (train, test))
    told = {}
    for name in rows if len(set(label)) > 1 else ():
        for shots in SHOTS:
            scores = []
            for draw in range(DRAWS):
                order = np.random.default_rng(draw).permutation(len(label))
                chosen = np.concatenate([order[label[order] == one][:shots] for one in np.unique(label)])
                scores.append(_fitted(rows[name][chosen], label[chosen], 10.0).score(test_rows[name], test_label))
            told[f"{name}_{shots}_shot"] = float(np.mean(scores))
            told[f"{name}_{shots}_shot_std"] = float(np.std(scores))
    return told


def neighbours(judged: Judged, train: Samples, val: Samples, test: Samples) -> dict[str, float]:
    """Return `<m>_knn`: the accuracy of the 20 nearest training rows by cosine, weighted by exp(cosine / 0.07).

    As DINO is measured (arXiv:2104.14294, section 4.1).
    """
    (rows, label), (test_rows, test_label) = (_features(judged, one) for one in (train, test))
    told = {}
    for name in rows if len(label) else ():
        cosine = torch.from_numpy(test_rows[name]) @ torch.from_numpy(rows[name]).T
        best, places = cosine.topk(min(NEIGHBOURS, len(label)), 1)
        votes = torch.zeros(len(test_label), int(label.max()) + 1)
        votes.scatter_add_(1, torch.from_numpy(label)[places], (best / 0.07).exp())
        told[f"{name}_knn"] = float((votes.argmax(1).numpy() == test_label).mean())
    return told


def calibration(judged: Judged, train: Samples, val: Samples, test: Samples) -> dict[str, float]:
    """Return `expected_calibration_error` in 15 bins (arXiv:1706.04599), as it is and after a temperature chosen on `val`."""
    from torchmetrics.functional.classification import multiclass_calibration_error

    told: dict[str, float] = {}
    said = {name: gather(judged, samples).stacked() for name, samples in (("val", val), ("test", test))}
    if "logits" not in said["test"]:
        return told
    kept = {name: (one["label"] >= 0) & ~one["logits"].isnan().any(1) for name, one in said.items()}
    logits = {name: one["logits"][kept[name]].float() for name, one in said.items()}
    label = {name: one["label"][kept[name]] for name, one in said.items()}
    if not len(label["test"]):
        return told

    def error(temperature: float) -> float:
        shares = (logits["test"] / temperature).softmax(1)
        return multiclass_calibration_error(shares, label["test"], shares.shape[1], n_bins=BINS).item()

    told["expected_calibration_error"] = error(1.0)
    if len(label["val"]):
        steps = torch.logspace(-1, 1, 81).tolist()
        best = min(steps, key=lambda t: torch.nn.functional.cross_entropy(logits["val"] / t, label["val"]).item())
        told |= {"temperature": best, "expected_calibration_error_with_temperature": error(best)}
    return told
