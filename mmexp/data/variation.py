"""How training samples change from epoch to epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmexp.draws import RowDraws
from mmexp.types import AS_IT_IS, Augmentation, NonNegativeInt, Place, PositiveInt


@dataclass(frozen=True)
class Variation:
    """The data's own choice of texts, then the augmentations in turn, drawn by `seed`, epoch and row.

    With `views` a sample is seen in so many ways alone, epoch after epoch the next (dataset reinforcement, arXiv:2303.08983).
    """

    seed: int
    augmentations: Sequence[Augmentation] = ()
    view: str = ""
    views: int | None = None

    def drawn(self, epoch: int) -> int:
        """Return the number of the view that is seen in `epoch`."""
        return epoch if epoch == AS_IT_IS or self.views is None else epoch % self.views

    def text(self, row: int, epoch: int) -> np.random.Generator:
        """Return the randomness by which the data chooses among a row's texts."""
        return np.random.default_rng((self.seed, self.drawn(epoch), row))

    def __call__(self, kind: str | None, values: Any, places: Sequence[Place], name: str | None = None) -> Any:
        """Return the values (B) of one kind, or the whole batch (None), changed; evaluations see them as they are.

        Modalities of a kind that have another `name` than the first of it are drawn for by themselves.
        """
        if places[0][1] == AS_IT_IS:
            return values
        own = "" if name in (None, "image", "text", "audio") else f"{name} "
        rows = [row for row, _ in places]
        draws = RowDraws(self.seed, self.drawn(places[0][1]), rows, self.view + own)
        for augmentation in self.augmentations:
            if augmentation.modality == kind:
                values = augmentation(values, draws)
        return values


@dataclass(frozen=True)
class Redrawn:
    """How often the ways in which samples vary are drawn anew: `views` None is another one every epoch.

    `seed` is that of the draws, None the run's own: with one of its own, runs of several seeds see the same views.
    """

    views: PositiveInt | None = None
    seed: NonNegativeInt | None = None

    def variation(self, run_seed: int, augmentations: Sequence[Augmentation], view: str = "") -> Variation:
        """Return the variation of a run."""
        return Variation(run_seed if self.seed is None else self.seed, augmentations, view, self.views)
