"""The sizes of a model, and what there is to learn from: what objectives are built for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from mmexp.types import Prepared


class Marks(NamedTuple):
    """The token ids by which a text encoder's tokenizer marks where a text begins and ends, and what is no text at all."""

    begin: int
    end: int
    pad: int


@dataclass(frozen=True)
class Supervision:
    """What the train split holds to learn from. `kinds` are among labels, targets and number.

    `counts (C,)` are the rows that have each of `classes` as their one label; `mean` and `deviation` those of the numbers.
    """

    kinds: frozenset[str] = frozenset()
    classes: Sequence[str] = ()
    counts: Sequence[int] = ()
    mean: float = 0.0
    deviation: float = 1.0


@dataclass(frozen=True)
class TeacherShape:
    """The `widths` of what a teacher says, by the names of `Said`, and by modality the `grids` its attention lies on."""

    widths: Mapping[str, int] = field(default_factory=dict)
    grids: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def of(self, kind: str) -> dict[str, int]:
        """Return the widths of one kind by modality, for example those of `pooled`."""
        return {name.removeprefix(f"{kind}/"): w for name, w in self.widths.items() if name.startswith(f"{kind}/")}


@dataclass(frozen=True)
class PretrainedSpace:
    """The common space of a pretrained dual encoder such as CLIP, as far as one of its towers knows it.

    Args:
        source: model and weights by name; towers of the same source share the space.
        projection: the tower's own map from its pooled encoding (B, D) into the space (B, `width`), not normalised.
        width: the width of the space.
        log_scale: the logarithm of the factor on cosines (CLIP's `logit_scale`).
        bias: what is added to the scaled cosines (SigLIP's `logit_bias`), None where the model has none.
    """

    source: str
    projection: nn.Module
    width: int
    log_scale: float
    bias: float | None = None


@dataclass(frozen=True)
class ModelShape:
    """The sizes that a head needs: `dims` of each modality's encoding, of the fused one, and what there is to predict.

    `supervision` is empty for a restored head: what it took from there is among its weights. So is `teacher`, but for the
    widths that weights of heads tell.
    `word_edges (2, V)` says of each token id whether it begins a word, and whether it ends one; None where that is unknown.
    `context` is the most words of a text, `word_dim` the width of what may be added to their vectors (None: nothing may),
    `prepare_text` the text encoder's `prepare`, `grid` the rows and columns of a picture's tokens, `spectrogram_size` mel bands
    and frames, `audio_grid` the rows (of mel bands) and columns (of frames) of a sound's tokens. `spaces` are, by modality, the
    spaces of pretrained encoders that come from one dual encoder, and empty where there are no two such.
    """

    dims: Mapping[str, int]
    fused_dim: int | None
    vocab_size: int | None = None
    mask_token_id: int | None = None
    word_edges: Tensor | None = None
    marks: Marks | None = None
    context: int | None = None
    word_dim: int | None = None
    prepare_text: Callable[[Sequence[str]], Prepared] | None = None
    image_size: int | None = None
    grid: tuple[int, int] | None = None
    spectrogram_size: tuple[int, int] | None = None
    audio_grid: tuple[int, int] | None = None
    spaces: Mapping[str, PretrainedSpace] = field(default_factory=dict)
    num_classes: int = 0
    supervision: Supervision = field(default_factory=Supervision)
    teacher: TeacherShape = field(default_factory=TeacherShape)

    def source_dim(self, name: str) -> int:
        """Return the width of `fused` or of a modality."""
        dim = self.fused_dim if name == "fused" else self.dims[name]
        assert dim is not None
        return dim
