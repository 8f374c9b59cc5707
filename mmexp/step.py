"""A step of training as objectives, balances and methods against forgetting see it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from mmexp.curriculum import Curriculum
from mmexp.draws import RowGenerator
from mmexp.types import Batch, Encoded, Prepared


class Terms(NamedTuple):
    """What an objective returns: named scalar losses, and named scalar numbers that are only logged.

    `counts` holds, for a loss that is a mean over some of this process's rows (words, patches, targets), how many those are,
    a scalar; weights where they weigh differently. Processes, and the batches of an evaluation set, are then averaged by
    them. A loss without a count is an equal share of each process: it already is a mean over the rows of all.
    """

    losses: dict[str, Tensor]
    metrics: Mapping[str, Tensor] = MappingProxyType({})
    counts: Mapping[str, Tensor] = MappingProxyType({})


class Views(Protocol):
    """What a step offers its objectives. The clean view is encoded once, whoever asks."""

    batch: Batch

    def having(self, *modalities: str) -> "Views | None":
        """Return the rows that have all of `modalities`: the step itself where each row has, None where no row has."""
        ...

    def only(self, rows: Tensor) -> "Views":
        """Return some rows (R,) of the step; their clean encodings are those of the whole."""
        ...

    def encoded(self) -> dict[str, Encoded]:
        """Return the clean encoding of every modality."""
        ...

    def fused(self) -> Encoded:
        """Return the fusion of the clean view."""
        ...

    def source(self, name: str) -> Encoded:
        """Return the clean encoding that a head looks at: `fused`, or that of a modality."""
        ...

    def strong(self) -> dict[str, Encoded]:
        """Return the encoding of every modality, of its strongly augmented input where the batch has one."""
        ...

    def encode(self, modality: str, prepared: Prepared, keep: Tensor | None = None) -> Encoded:
        """Encode a changed (masked) input of one modality, or only the tokens `keep (B, K)` of it."""
        ...

    def fuse(self, encoded: dict[str, Encoded]) -> Encoded:
        """Fuse other pairs than the batch's own."""
        ...

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the rows of all processes, own rows with gradient; in one process the tensor itself."""
        ...

    def teacher(self, kind: str) -> dict[str, Tensor]:
        """Return one kind of what the teacher says, by modality; `{"ids", "mask"}` of `captions`, `{"logits"}` of `logits`."""
        ...

    def generator(self, name: str) -> torch.Generator:
        """Return randomness that depends on seed, step and `name` alone."""
        ...

    def row_generator(self, name: str) -> RowGenerator:
        """Return random numbers for each row, a function of seed, step, row and `name`."""
        ...

    def current(self, value: Curriculum[float]) -> float:
        """Return what a value that may change in the course of the run is in this step."""
        ...


class Learner(Protocol):
    """Model and objectives together, a torch module, as a method against forgetting sees them."""

    named_parameters: Callable[[], Iterator[tuple[str, nn.Parameter]]]
    state_dict: Callable[[], dict[str, Tensor]]

    def said(self, views: "Views") -> dict[str, Tensor]:
        """Return unit vectors `vector/<modality> (B, D)` and the `scale` of their similarities, a scalar, where there are any.

        And class logits `logits/<objective> (B, C)`, likewise.
        """
        ...

    def again(self, batch: Batch) -> "Views":
        """Return a batch as this model sees it; its gathering is of the batch alone."""
        ...

    def loss(self, batch: Batch) -> Tensor:
        """Return the objectives' losses (a scalar) of a batch, by their weights at the end of the run."""
        ...


class Losses(Protocol):
    """The K named losses of a training step, in alphabetical order, as a balance sees them.

    Over several processes `values`, `counts` and `products` are of the whole batch, and so the same in all of them.
    """

    names: Sequence[str]
    losses: Tensor
    """(K,) of this process, with gradient."""
    given: Tensor
    """(K,) the weights that the objectives state, as they are in this step."""
    generator: torch.Generator

    @property
    def values(self) -> Tensor:
        """Return the losses (K,) without gradient."""
        ...

    @property
    def counts(self) -> Tensor:
        """Return which of the losses (K,) are of any row: those of none are 0, and say nothing."""
        ...

    @property
    def products(self) -> Tensor:
        """Return the products (K, K) of the losses' gradients on the shared model, fp64 on the CPU. Costs K backwards."""
        ...


class Balanced(NamedTuple):
    """What a balance decides.

    `weights (K,)` of the losses; `shared (K,)` other weights for the gradients on the shared model, where the heads'
    are to differ from those; `extra` a scalar that the balance's own parameters are to lower.
    """

    weights: Tensor
    shared: Tensor | None = None
    extra: Tensor | float = 0.0
