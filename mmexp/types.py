"""The words that all rooms share: what a batch, an encoding, an encoder and an objective's view of a step are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mmexp.rows import take

# In a signature these names also tell `mmexp.config` which values to refuse before anything is built.
PositiveInt = int
NonNegativeInt = int
PositiveFloat = float
NonNegativeFloat = float
Fraction = float  # from 0 to 1, both included

Prepared = dict[str, Tensor]
"""One modality of a batch as its encoder prepared it, e.g. `pixels (B, 3, H, W)` uint8 or `ids (B, N)` and `mask (B, N)`.

Of texts that a model reads with their padding (SigLIP) `mask` is true everywhere; `real (B, N)` is true where one is no padding.

Of sounds `samples (B, T)`, or `spectrogram (B, M, F)` of M mel bands and F frames with `mask (B, F)` true where one is real.
Of videos `frames (B, T, 3, S, S)` uint8 with `mask (B, T)`.
"""

Batch = dict[str, Any]
"""From modality to `Prepared`, and `index (B,)` row numbers, `concept (B,)`, `label (B,)` (-1 where there is none).

`items` goes from modality to `(B,)` item numbers: equal where two rows hold the same item of that modality, -1 where a row
lacks it. Where the data has them also `targets (B, C)` from 0 to 1, how sure each of several labels is (NaN: nothing is known
of the row), and `number (B,)` (NaN where there is none). `strong` holds strongly augmented modalities, where they are asked for.
`present` goes from a modality that some rows lack to `(B,)`, true where it is there; the prepared input of the others is blank.
Where an augmentation of the whole batch mixed or swapped something, `shown` goes from modality to `Shown`. What frozen
parts said of the rows before may be there instead of being computed: `encoded`, from modality to `tokens`, `pooled` and
`mask` (tokens only where they are looked at), and `taught`, what the teacher says.
"""

_BESIDE = frozenset({"items", "present", "strong", "shown", "teacher", "taught", "encoded"})


def modalities_of(batch: Batch) -> list[str]:
    """Return the modalities of a batch in alphabetical order, whether they are prepared or encoded already."""
    prepared = {name for name, part in batch.items() if isinstance(part, Mapping)} - _BESIDE
    return sorted(prepared | set(batch.get("encoded", {})))


Place = tuple[int, int]
"""A row and the epoch in which it is read, or `AS_IT_IS`: without variation."""
AS_IT_IS = -1
Said = dict[str, Tensor]
"""What a teacher says of the rows of a batch, only what it was asked for.

`vectors/<modality> (B, D)` of length 1 in its common space, `pooled/<modality> (B, D)`, `attention/<modality> (B, N)` the mean
square of each token of a grid, `logits (B, C)` of its classes, and what it wrote: `captions/ids`, `captions/mask (B, L)`.
"""

Shown = dict[str, Tensor]
"""What each row of a batch shows in one modality: `concept (B, K)`, `label (B, K)`, and the `share (B, K)` of each, sum 1.

`item/<modality> (B, K)` are the items of the K rows that it was made of, in all modalities.
"""


def identity(batch: Batch) -> dict[str, Tensor]:
    """Return by what a row is told from others: `concept`, `label` and `item/<modality>` of every modality, (B,) each."""
    items = {f"item/{name}": item for name, item in batch.get("items", {}).items()}
    return {"concept": batch["concept"], "label": batch["label"], **items}


@dataclass
class Encoded:
    """What an encoder or a fusion gives: `tokens (B, N, D)`, `pooled (B, D)`, `mask (B, N)` true where a token is real.

    A fusion that `keeps_tokens` says in `parts` which of its tokens are those of which modality. `present (B,)` is true where
    a row has the modality, None where all have; tokens and pooled of a row that lacks it are zeros, and its mask is false.
    """

    tokens: Tensor
    pooled: Tensor
    mask: Tensor
    parts: Mapping[str, slice] = field(default_factory=dict)
    present: Tensor | None = None

    def __getitem__(self, rows: Tensor | slice) -> "Encoded":
        """Return the chosen rows, for example the hard negatives of a batch."""
        present = None if self.present is None else self.present[rows]
        return Encoded(take(self.tokens, rows), take(self.pooled, rows), self.mask[rows], self.parts, present)

    def there(self) -> Tensor:
        """Return (B,) true where a row has this modality."""
        if self.present is None:
            return torch.ones(len(self.pooled), dtype=torch.bool, device=self.pooled.device)
        return self.present

    def tokens_of(self, modality: str) -> Tensor:
        """Return one modality's tokens (B, N, D) out of a fusion's."""
        return self.tokens[:, self.parts[modality]]


class Samples(Protocol):
    """The rows of one split. `concepts (N,)` are equal where the data state that two rows show the same thing, and another
    number in every row where they do not; `labels (N,)` is -1 for none.

    `items`, from modality to `(N,)` int64, may be there too: equal where two rows hold the same item by content (text: the
    string; picture, sound, video: the file or its bytes), numbered alike in all splits, -1 where a row lacks it. The number
    of a row with several texts is that of the joined one; `text_items(row) -> list[int]` gives that of each alone.
    `targets (N, C)` and `number (N,)`, both float32 and as in a batch, may be there too. So may `present`, from a modality
    that some rows lack to `(N,)` bool, true where it is there; what a row lacks is never read.
    Where a row may have several texts, `texts(row) -> list[str]` returns each alone. `chooses_texts(modality) -> bool` says
    whether `rng` changes what `read` returns of a modality; of samples without it that is assumed of every text.
    """

    concepts: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def read(self, row: int, modality: str, rng: np.random.Generator | None = None) -> Any:
        """Return the raw value of a modality by its name, of whatever kind it is.

        `image` a PIL picture in RGB, `text` a string, `audio` (samples (T,) float32, rate in Hz), `video` its frames in order:
        PIL pictures in RGB, or uint8 (T, H, W, 3). `rng` varies the text in training.
        """
        ...

    def where(self, row: int) -> str:
        """Return file and row as a person would look them up, for error messages."""
        ...


@dataclass
class DataSource:
    """What one choice of the `data` group gives. `splits` holds `train`, `val`, `test` and any further evaluation set.

    `modalities` are names: those of the encoders that read them, a further one of a kind under a name of its own.

    `notes` are lines about the data for the start of a run, such as how validation rows were held out.
    `concepts_stated`: concepts come from the data, such as a concept column; otherwise every row has its own.

    Where there are tasks in sequence, `tasks` goes from the name of each, which its evaluation set has too, to its rows of
    `train`.
    """

    splits: Mapping[str, Samples]
    modalities: Sequence[str]
    classes: Sequence[str] = ()
    fingerprint: str = ""
    skipped: Mapping[str, int] = field(default_factory=dict)
    tasks: Mapping[str, np.ndarray] = field(default_factory=dict)
    concepts_stated: bool = True
    notes: Sequence[str] = ()


class Kept(Protocol):
    """What a frozen part says of the rows of one split, computed once."""

    def __call__(self, places: Sequence[Place]) -> dict[str, Tensor]:
        """Return its named tensors (B, ...)."""
        ...


class Draws(Protocol):
    """Random numbers for the rows of a batch, a function of what they are for."""

    def __call__(self, name: str, columns: int) -> np.ndarray:
        """Return numbers (B, columns) from 0 to below 1, float32."""
        ...


class Augmentation(Protocol):
    """Changes training samples of one kind of `modality`, a batch at a time, in the loader; None the whole `Batch`, last.

    What is for pictures changes videos too, all frames of one alike.
    """

    modality: str | None

    def __call__(self, values: Any, draws: Draws) -> Any:
        """Return what it was given, changed. What a row lacks is not among the values of a modality.

        Of `image` uint8 (B, 3, S, S), of `text` a list of strings, of `audio` float32 (B, T), then of `spectrogram` what the
        audio encoder makes of that, float32 (B, M, F); of None the `Batch` as prepared, with `shown` where rows no longer
        show their own concept alone.
        """
        ...


class Encoder(Protocol):
    """One modality in, `Encoded` out. `adapter_targets` are regular expressions of the Linear layers LoRA may wrap.

    `modality` is the kind: image, text, audio or video. One for pictures has their side `image_size` in pixels; one for videos
    that of its frames, and how many `frames` it sees. One for sounds has its clips' `length` in samples; where it works on
    spectrograms, `spectrogram(samples) -> Prepared`. That of `text` also has `vocab_size`, `mask_token_id`, `marks`, the most
    tokens of a text as `context`, and `decode(ids (B, N)) -> list[str]`: objectives that hide or write words need these. Where
    it has a `word_dim`, `added (B, N, word_dim)` in what it encodes is added to the vectors of the words, before anything else
    is done with them.
    """

    modality: str
    dim: int
    adapter_targets: str

    def prepare(self, values: Sequence[Any]) -> Prepared:
        """Turn raw values into tensors: size, statistics or tokenizer are the encoder's own. Runs in loader workers."""
        ...

    def __call__(self, prepared: Prepared) -> Encoded:
        """Encode a prepared batch.

        An encoder whose `sees_parts` is true also has `encode_visible(prepared, keep (B, K))`, which encodes those tokens alone.
        One that leaves some out in training says so by `drops_patches`. Where `gives_tokens` is set to false, nobody looks at
        tokens, and they need not be computed. One that changes in the course of a run has `reach(progress)`.
        """
        ...


class Adapter(Protocol):
    """What of a part is trained, and how. A part is an encoder, `encoders.<name>`, or the `fusion`.

    `added` is found in the names of weights that it adds, None where it adds none. One for the `whole` model may say by
    `of(name) -> Adapter` what becomes of each part; one of `towers_only` leaves the fusion frozen. Where it has
    `behind(dim) -> nn.Module`, that stands behind the tower, from `Encoded` to `Encoded`. One with `full_rate = True` trains
    weights of a pretrained tower at `optimizer.lr`, and not at `optimizer.pretrained_lr`.
    """

    needs_weights: bool
    added: str | None

    def apply(self, name: str, part: nn.Module) -> None:
        """Freeze what is not trained, and add layers of its own. Raises RequestError where the part takes none."""
        ...

    def merge(self, part: nn.Module) -> None:
        """Fold what was added into the weights, where that is possible."""
        ...
