"""What a task gathers over an evaluation set, and the numbers it becomes."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from math import isnan
from types import MappingProxyType

import torch
from torch import Tensor

from mmexp.tasks.neighbours import neighbour_metrics
from mmexp.tasks.retrieval import Captions, Direction, directions, retrieval_metrics


class Gathered:
    """Weighted sums of scalars, and the vectors, logits and concepts of all rows of one evaluation set.

    `captions` holds by modality the vectors of each text of the rows that have several.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = defaultdict(float)
        self.weights: dict[str, float] = defaultdict(float)
        self.given: dict[str, float] = {}
        self.tensors: dict[str, list[Tensor]] = defaultdict(list)
        self.captions: dict[str, Captions] = {}

    def add(
        self,
        scalars: Mapping[str, Tensor],
        tensors: Mapping[str, Tensor],
        rows: int,
        counts: Mapping[str, float] = MappingProxyType({}),
        given: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Add one batch.

        Args:
            scalars: Its means, NaN where nothing is known.
            tensors: What is gathered of its rows, `(rows, ...)` each.
            rows: The number of its rows: the weight of a mean without a count.
            counts: Over how many rows (words, patches, targets) a mean is; 0 where nothing counts in it.
            given: The weight of each loss in `loss`, which is then the sum of the losses of the whole set.
        """
        self.given.update(given)
        for name, value in scalars.items():
            weight = counts.get(name, float(rows))
            if weight and not isnan(number := float(value)):
                self.sums[name] += number * weight
                self.weights[name] += weight
        for name, tensor in tensors.items():
            self.tensors[name].append(tensor.detach().cpu())

    def stacked(self) -> dict[str, Tensor]:
        """Return every tensor over all rows, each row once, in the order of `index (N,)`."""
        whole = {name: torch.cat(parts) for name, parts in self.tensors.items()}
        index, first = whole["index"].unique(return_inverse=True)
        place = torch.empty(len(index), dtype=torch.long).scatter_(0, first, torch.arange(len(first)))
        return {name: tensor[place] for name, tensor in whole.items()}

    def below(self, part: str) -> dict[str, Tensor]:
        """Return the tensors over all rows whose name begins with `part`, by the rest of their names."""
        return _below(self.stacked(), part)

    def directions(self) -> Iterator[tuple[str, str, Direction]]:
        """Yield query modality, key modality and the retrieval from one to the other, of every two that some row has."""
        yield from directions(*self._retrieved(self.stacked()), self.captions)

    @staticmethod
    def _retrieved(whole: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Return vectors, concept, presence and items."""
        return _below(whole, "vector/"), whole["concept"], _below(whole, "present/"), _below(whole, "item/")

    def metrics(self) -> dict[str, float]:
        """Return the flat numbers of this evaluation set, without its name in front."""
        numbers = {name: total / self.weights[name] for name, total in self.sums.items()}
        # Only whole sums: without one of its losses, `loss` could not be compared with that of other evaluation sets.
        if self.given:
            numbers.pop("loss", None)
        if self.given and self.given.keys() <= numbers.keys():
            numbers["loss"] = sum(self.given[name] * numbers[name] for name in self.given)
        whole = self.stacked()
        pooled, present, items = (_below(whole, part) for part in ("pooled/", "present/", "item/"))
        numbers |= neighbour_metrics(pooled, whole["concept"], whole["label"], present, items)
        numbers |= retrieval_metrics(*self._retrieved(whole), self.captions)
        if "logits" in whole:
            numbers |= classification_metrics(whole["logits"], whole["label"])
        if "marks" in whole:
            numbers |= multilabel_metrics(whole["marks"], whole["targets"])
        if "estimates" in whole:
            numbers |= regression_metrics(whole["estimates"], whole["number"])
        return numbers


def _below(whole: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(part): tensor for name, tensor in whole.items() if name.startswith(part)}


def classification_metrics(logits: Tensor, label: Tensor) -> dict[str, float]:
    """Return accuracy and macro F1 over the labelled rows: `logits (N, C)`, `label (N,)`.

    Logits of NaN were not said, for the row lacks what they are said of. Nothing where no labelled row has any.
    """
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

    labelled = (label >= 0) & ~logits.isnan().any(1)
    if not labelled.any():
        return {}
    logits, label = logits[labelled].float(), label[labelled]
    classes = logits.shape[1]
    return {
        "accuracy": multiclass_accuracy(logits, label, classes, average="micro").item(),
        "f1_macro": multiclass_f1_score(logits, label, classes, average="macro").item(),
    }


def multilabel_metrics(logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Return mean average precision and macro F1 over the classes that any row has, none where none has: `(N, C)` both.

    A target above a half is a right answer, one below a wrong one; one of a half or NaN is neither and left out, and so are
    rows of which nothing was said (NaN).
    """
    said = ~logits.isnan().any(1)
    logits, targets = logits[said], targets[said]
    from torchmetrics.functional.classification import binary_average_precision, binary_f1_score

    right = torch.where(targets.isnan() | (targets == 0.5), -1, (targets > 0.5).long())
    there = (right == 1).any(0).nonzero().flatten().tolist()
    if not there:
        return {}
    # Class by class: the multilabel functions refuse a single one.
    pairs = [(logits[:, c].float().sigmoid(), right[:, c]) for c in there]
    precision = [binary_average_precision(score, own, ignore_index=-1) for score, own in pairs]
    f1 = [binary_f1_score(score, own, ignore_index=-1) for score, own in pairs]
    return {
        "mean_average_precision": torch.stack(precision).mean().item(),
        "f1_macro": torch.stack(f1).mean().item(),
    }


def regression_metrics(estimates: Tensor, number: Tensor) -> dict[str, float]:
    """Return mean absolute error, in the units of the data, and R² over the rows with a number: `estimates`, `number (N,)`.

    A row without an estimate (NaN) does not count. No R² where all numbers are the same, as that of a single row: it divides
    by their variance.
    """
    from torchmetrics.functional.regression import mean_absolute_error, r2_score

    known = ~(number.isnan() | estimates.isnan())
    if not known.any():
        return {}
    estimates, number = estimates[known].float(), number[known].float()
    error = {"mean_absolute_error": mean_absolute_error(estimates, number).item()}
    return error if number.min() == number.max() else {**error, "r2": r2_score(estimates, number).item()}
