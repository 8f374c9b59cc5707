"""Captioning: the text word by word, from what a decoder sees in the picture (the captioning loss of CoCa, arXiv:2205.01917)."""

from typing import Literal

from torch import Tensor

from mmexp.objectives.captioner import Captioner, Source, make_decoder
from mmexp.objectives.decoder import State, causal
from mmexp.objectives.generation import Decoding
from mmexp.shapes import ModelShape
from mmexp.step import Views
from mmexp.types import Fraction, PositiveInt


class Caption(Captioner):
    """Causal self-attention over the words, cross-attention to the `source`'s tokens.

    Unlike CoCa's, the decoder has no layers of its own for the text alone: the text encoder, which `contrastive` trains, is
    not bound to be causal and so cannot be read here. `words` are those of the data's text, or the captions that a teacher
    writes for the same rows (sequence-level distillation, arXiv:1606.07947).
    """

    needs = ("{source}", "text", "{words}", "tokens", "inputs")

    def __init__(
        self,
        shape: ModelShape,
        *,
        source: str = "image",
        words: Literal["text", "teacher.captions"] = "text",
        dim: PositiveInt = 192,
        depth: PositiveInt = 2,
        heads: PositiveInt = 3,
        label_smoothing: Fraction = 0.0,
        decoding: Decoding | None = None,
        validation_rows: PositiveInt | None = 256,
    ):
        decoder = make_decoder(shape, dim, depth, heads, reads=True)
        told = Source(shape, source, "tokens", dim)
        name = "caption" if words == "text" else "distill_captions"
        super().__init__(shape, name, told, decoder, label_smoothing, decoding, validation_rows)
        self.teachers_words = words != "text"

    def hidden(self, views: Views, ids: Tensor, given: Tensor) -> Tensor:
        """Return what is known after each word (B, N, D); the source is seen by all of them."""
        seen = causal(ids.shape[1], ids.device)
        return self.decoder(self.decoder.embed(ids), seen, self.state(views))[0]

    def state(self, views: Views) -> State:
        """Return the state in which the source is seen and no word read."""
        return self.decoder.start(*self.source(views))
