"""What text encoders trained from scratch share: the tokenizer, and all that objectives ask of words."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmexp.encoders.names import first_line
from mmexp.encoders.tokens import pad, word_edges, words_of
from mmexp.errors import RequestError
from mmexp.shapes import Marks
from mmexp.types import Prepared


class TextEncoder(nn.Module):
    """Subclasses build themselves and define `forward`.

    `tokenizer` is a file of the `tokenizers` library with [PAD] and [MASK] that marks begin and end itself; without one
    the bundled one is used. `cut` counts captions longer than `context` tokens. Raises RequestError for a wrong file.
    """

    modality = "text"
    pretrained = False

    def __init__(self, dim: int, context: int, tokenizer: str | None):
        super().__init__()
        self.dim, self.word_dim, self.context, self.cut = dim, dim, context, 0
        self.tokenizer = _tokenizer(tokenizer)
        self.vocab_size: int = self.tokenizer.get_vocab_size()
        self.pad_token_id: int = self.tokenizer.token_to_id("[PAD]")
        self.mask_token_id: int = self.tokenizer.token_to_id("[MASK]")
        # It marks begin and end itself: a text of nothing is these two.
        ends = self.tokenizer.encode("").ids or [self.pad_token_id]
        self.marks = Marks(ends[0], ends[-1], self.pad_token_id)

    @property
    def word_edges(self) -> Tensor | None:
        """Whether each id begins a word, and whether it ends one (2, V)."""
        return word_edges([self.tokenizer.id_to_token(i) for i in range(self.vocab_size)], self.vocab_size)

    def prepare(self, values: Sequence[Any]) -> Prepared:
        """Return `ids (B, N)` and `mask (B, N)`; a caption that is cut keeps its end mark."""
        # One by one: encode_batch starts threads, which a forked loader worker may not survive.
        rows = [self.tokenizer.encode(value).ids for value in values]
        for i, row in enumerate(rows):
            if len(row) > self.context:
                self.cut += 1
                rows[i] = [*row[: self.context - 1], row[-1]]
        return pad(rows, self.pad_token_id)

    def decode(self, ids: Tensor) -> list[str]:
        """Return the texts of `ids (B, N)`, each up to its end mark."""
        return [self.tokenizer.decode(words_of(row, self.marks)).strip() for row in ids.tolist()]


def _tokenizer(path: str | None) -> Any:
    from tokenizers import Tokenizer

    file = Path(path) if path else Path(str(files("mmexp"))) / "data" / "assets" / "tokenizer.json"
    if not file.is_file():
        raise RequestError(f"tokenizer: there is no file '{file}'.")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more specific
        raise RequestError(f"tokenizer: '{file}' cannot be read: {first_line(error)}") from error
    for mark in ("[PAD]", "[MASK]"):
        if tokenizer.token_to_id(mark) is None:
            raise RequestError(f"tokenizer: '{file}' has no {mark}.")
    # Cutting and padding are the encoder's own.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
