"""What objectives share where rows lack modalities: a step in which none counts, and the rows that have both of a pair."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import nan
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmexp.step import Terms, Views
from mmexp.types import Encoded


def no_loss(objective: nn.Module, views: Views) -> Tensor:
    """Return the loss of a step in which no row counts: 0 where something is learned; in evaluations NaN, not known.

    The 0 has the objective's weights in its graph, so that a step in which nothing else is learned goes back, too.
    """
    learns = objective.training or torch.is_grad_enabled()
    nothing = torch.full((), 0.0 if learns else nan, device=views.batch["index"].device)
    touched = [0.0 * weight.flatten()[:1].sum() for weight in objective.parameters() if weight.requires_grad]
    return torch.stack([nothing, *touched]).sum()


def no_terms(objective: nn.Module, views: Views, losses: Iterable[str], metrics: Iterable[str] = ()) -> Terms:
    """Return the terms of a step in which no row counts. What is only looked at is left out of the log of a training."""
    nothing, names = no_loss(objective, views), list(losses)
    counts = dict.fromkeys(names, torch.zeros_like(nothing))
    return Terms(dict.fromkeys(names, nothing), {} if objective.training else dict.fromkeys(metrics, nothing), counts)


def mean(losses: Tensor) -> Tensor:
    """Return the mean of `losses (H,)`, 0 where there are none: a curriculum may hide nothing at first."""
    return losses.sum() / max(1, len(losses))


def count(like: Tensor, number: int) -> Tensor:
    """Return over how many values a loss is the mean, as a scalar fp32 tensor on the device of `like`."""
    return torch.tensor(float(number), device=like.device)


def paired_rows(views: Views, known: Tensor | None = None) -> Tensor:
    """Return how many rows of all processes have two modalities or more and are `known (B,)`, a scalar.

    Batches of an evaluation set are averaged by it, where a loss is a mean over the rows of all processes already.
    """
    rows = torch.stack([e.there() for e in views.encoded().values()]).sum(0) > 1
    rows = rows if known is None else rows & known
    return views.gather(rows.long()[:, None]).sum()


def mean_of(objective: nn.Module, views: Views, terms: Sequence[Tensor]) -> Tensor:
    """Return the mean of the terms of those modalities that any row has."""
    return torch.stack(list(terms)).mean() if terms else no_loss(objective, views)


class Both(NamedTuple):
    """The rows that have both of a pair of modalities: `own` of this process's, `every` of those of all processes.

    Where each row has both they are whole slices. A mean over `own` rows, times `share`, is this process's part of the mean
    over all of them, as the mean over processes makes it.
    """

    own: Tensor | slice
    every: Tensor | slice
    share: float = 1.0

    @property
    def nowhere(self) -> bool:
        """Whether no row of any process has both."""
        return isinstance(self.every, Tensor) and not len(self.every)


def term(objective: nn.Module, views: Views, rows: Both, loss: Callable[[], Tensor], *gathered: Tensor) -> Tensor:
    """Return this process's part of a `loss` that is a mean over `rows.own`.

    Where it has none of them, others do, and go back through what was `gathered`: so does the 0 that it returns.
    """
    if rows.nowhere:
        return no_loss(objective, views)
    return rows.share * loss() if rows.share else torch.stack([0.0 * tensor.sum() for tensor in gathered]).sum()


class Presence:
    """Which rows have which of the modalities `encoded`, in this process and in all."""

    def __init__(self, views: Views, encoded: dict[str, Encoded]):
        self.own = {name: e.present for name, e in encoded.items() if e.present is not None}
        # As numbers: not every backend gathers truth values.
        self.every = {name: views.gather(present.long()).bool() for name, present in self.own.items()}

    def both(self, *modalities: str) -> Both:
        """Return the rows that have all of `modalities`, two or one."""
        known = [name for name in modalities if name in self.own]
        if not known:
            return Both(slice(None), slice(None))
        own, every = (torch.stack([part[name] for name in known]).all(0) for part in (self.own, self.every))
        found = int(every.sum())
        share = int(own.sum()) * len(every) / (found * len(own)) if found else 0.0
        return Both(own.nonzero().squeeze(1), every.nonzero().squeeze(1), share)

    def mean(
        self,
        objective: nn.Module,
        views: Views,
        among: Iterable[tuple[str, ...]],
        loss: Callable[..., Tensor],
        gathered: Mapping[str, Tensor],
    ) -> Tensor:
        """Return the mean of `loss(*names, rows)` over those names `among` modalities, or pairs, that any row has.

        `gathered` are tensors by modality that the loss of the last name goes back through.
        """
        places = [(names, self.both(*names)) for names in among]
        terms = [
            term(objective, views, rows, partial(loss, *names, rows), gathered[names[-1]])
            for names, rows in places
            if not rows.nowhere
        ]
        return mean_of(objective, views, terms)
