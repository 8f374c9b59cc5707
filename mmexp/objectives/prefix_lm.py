"""Prefix language modelling: picture and first words are read, the rest is written (SimVLM, arXiv:2108.10904)."""

import torch
from torch import Tensor

from mmexp.objectives.captioner import Captioner, Reads, Source, make_decoder
from mmexp.objectives.decoder import State, causal
from mmexp.objectives.generation import Decoding
from mmexp.shapes import ModelShape
from mmexp.step import Views
from mmexp.types import Fraction, PositiveInt


class PrefixLM(Captioner):
    """One decoder reads the `source`'s tokens and a prefix of the words in both directions, and writes on from there.

    How many words are given is drawn for each row, from none to all but the end mark. (The paper's model has an encoder
    for the prefix; here one stack reads and writes, as in UniLM, arXiv:1905.03197.)
    `reads` pooled is a picture as one vector (ClipCap, arXiv:2111.09734).
    """

    needs = ("{source}", "text", "tokens", "inputs")

    def __init__(
        self,
        shape: ModelShape,
        *,
        source: str = "image",
        reads: Reads = "tokens",
        dim: PositiveInt = 192,
        depth: PositiveInt = 2,
        heads: PositiveInt = 3,
        label_smoothing: Fraction = 0.0,
        decoding: Decoding | None = None,
        validation_rows: PositiveInt | None = 256,
    ):
        decoder = make_decoder(shape, dim, depth, heads, reads=False)
        told = Source(shape, source, reads, dim)
        super().__init__(shape, "prefix_lm", told, decoder, label_smoothing, decoding, validation_rows)

    def given(self, real: Tensor, views: Views) -> Tensor:
        """Return how many of each row's first tokens (B,) are read at once: from the begin mark alone to all but the last."""
        drawn = views.row_generator("prefix").rand(len(real)).to(real.device)
        return 1 + (drawn * (real.sum(1) - 1)).long()

    def hidden(self, views: Views, ids: Tensor, given: Tensor) -> Tensor:
        """Return what is known after each word (B, N, D)."""
        tokens, mask = self.source(views)
        # The begin mark alone is no prefix: writing starts from a source that was read without it.
        words = given.where(given > 1, 0)
        inside = torch.arange(ids.shape[1], device=ids.device) < words[:, None]
        prefix = torch.cat([mask, inside], 1)
        whole = torch.cat([tokens, self.decoder.embed(ids)], 1)
        real = torch.cat([mask, torch.ones_like(inside)], 1)
        seen = prefix[:, None] | (causal(whole.shape[1], ids.device) & real[:, None])
        return self.decoder(whole, seen, State(mask[:, :0]))[0][:, mask.shape[1] :]

    def state(self, views: Views) -> State:
        """Return the state in which the source was read and no word."""
        tokens, mask = self.source(views)
        return self.decoder(tokens, mask[:, None].expand(-1, mask.shape[1], -1), State(mask))[1]
