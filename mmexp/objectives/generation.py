"""Writing text by a model that names the next word: greedy, beam search, sampling."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmexp.draws import RowGenerator
from mmexp.errors import RequestError
from mmexp.shapes import Marks
from mmexp.types import Fraction, PositiveFloat, PositiveInt

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]
"""From each row's last word (R,) and the state of what was before to the logits (R, V) of the next word and a new state.

A state is whatever the model keeps; `state[rows]` are the chosen rows of it.
"""


@dataclass(frozen=True)
class Decoding:
    """How text is written: the likeliest word each time, or by `beams`, or drawn where there is a `temperature`.

    `longest` is the most words (tokens) of a text, its end mark among them. Raises RequestError for keys that exclude each
    other.
    """

    longest: PositiveInt = 40
    beams: PositiveInt = 1
    length_penalty: float = 1.0
    temperature: PositiveFloat | None = None
    top_k: PositiveInt | None = None
    top_p: Fraction | None = None

    def __post_init__(self) -> None:
        if self.temperature is None and (self.top_k or self.top_p is not None):
            raise RequestError("decoding: top_k and top_p are for drawing words. Set decoding.temperature too.")
        if self.temperature is not None and self.beams > 1:
            raise RequestError("decoding: with a temperature words are drawn, not searched. Leave beams=1.")

    def __call__(self, step: Step, state: Any, begin: Tensor, marks: Marks, generator: RowGenerator) -> Tensor:
        """Return ids (R, longest): what follows `begin (R,)` up to the end mark, then padding.

        With a temperature the tokens of each of the R rows are drawn by its own numbers of the `generator`.
        """
        if self.beams > 1:
            return beam_search(step, state, begin, marks, self.longest, self.beams, self.length_penalty)
        return write(step, state, begin, marks, self.longest, partial(self._choose, generator))

    def _choose(self, generator: RowGenerator, logits: Tensor) -> Tensor:
        if self.temperature is None:
            return likeliest(logits)
        return draw(logits, generator.rand(len(logits)), self.temperature, self.top_k, self.top_p)


def write(
    step: Step, state: Any, begin: Tensor, marks: Marks, longest: int, choose: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return ids (R, longest), each word as `choose` picks it from the logits (R, V); padding after the end mark."""
    ids = begin.new_full((len(begin), longest), marks.pad)
    last, going = begin, torch.ones_like(begin, dtype=torch.bool)
    for place in range(longest):
        if not going.any():
            break
        logits, state = step(last, state)
        last = torch.where(going, choose(logits), marks.pad)
        ids[:, place] = last
        going = going & (last != marks.end)
    return ids


def likeliest(logits: Tensor) -> Tensor:
    """Return the word (R,) with the highest of `logits (R, V)`."""
    return logits.argmax(-1)


def draw(logits: Tensor, chance: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """Draw a token for each row from the softmax of its logits, the same on any device.

    Args:
        logits: `(R, V)`.
        chance: A uniform random number of each row `(R,)`, on the CPU: the quantile that is drawn.
        temperature: The logits are divided by it.
        top_k: Only the tokens with so many highest logits are left.
        top_p: Of these the fewest whose probabilities reach it (nucleus sampling, arXiv:1904.09751).

    Returns:
        Token ids `(R,)`.
    """
    scores, words = (logits.float() / temperature).sort(-1, descending=True)
    scores, words = scores[:, :top_k], words[:, :top_k]
    share = scores.softmax(-1)
    if top_p is not None:
        # What comes before a word must fall short of top_p; before the first there is nothing, and it stays.
        before = share.cumsum(-1) - share
        share = share.masked_fill((before >= top_p) & (before > 0), 0.0)
    cumulative = share.cpu().double().cumsum(1)
    wanted = chance.double()[:, None] * cumulative[:, -1:]
    place = torch.searchsorted(cumulative, wanted, right=True).clamp_max(share.shape[1] - 1)
    return words.gather(1, place.to(words.device)).squeeze(1)


class Finished:
    """The best text of each of R rows that has come to its end, and how many have."""

    def __init__(self, begin: Tensor, marks: Marks, longest: int):
        rows = len(begin)
        self.ids = begin.new_full((rows, longest), marks.pad)
        self.score = torch.full((rows,), -torch.inf, device=begin.device)
        self.count = torch.zeros_like(begin)

    def add(self, ids: Tensor, score: Tensor, most: int) -> None:
        """Add `ids (R, W, N)`, `score (R, W)`, -inf for none; a row that has `most` of them takes no more."""
        score = score.masked_fill(self.count[:, None] >= most, -torch.inf)
        self.count = self.count + (score > -torch.inf).sum(1)
        finest, which = score.max(1)
        better = finest > self.score
        self.score = torch.where(better, finest, self.score)
        self.ids = torch.where(better[:, None], ids[torch.arange(len(ids)), which], self.ids)


def beam_search(
    step: Step, state: Any, begin: Tensor, marks: Marks, longest: int, width: int, length_penalty: float
) -> Tensor:
    """Return for each row the ids (R, longest) of the best text found, by log-probability / length ** `length_penalty`.

    In each round the `width` best continuations of the unfinished texts go on; a text that ends among the `width` best is
    finished, and a row is done when it has `width` of them (as in transformers with `early_stopping`). What is unfinished at
    `longest` counts as it is. A width of 1 is the greedy choice.
    """
    rows = torch.arange(len(begin), device=begin.device)[:, None]
    ids = begin.new_full((len(begin), width, longest), marks.pad)
    # All beams of a row are alike at first: only one of them counts.
    score = torch.full((len(begin), width), -torch.inf, device=begin.device)
    score[:, 0] = 0.0
    last, state, done = (
        begin.repeat_interleave(width),
        state[rows.expand(-1, width).flatten()],
        Finished(begin, marks, longest),
    )
    for place in range(longest):
        if (done.count >= width).all():
            break
        logits, state = step(last, state)
        total = score[..., None] + logits.float().log_softmax(-1).view(len(begin), width, -1)
        best, flat = total.flatten(1).topk(2 * width)
        beam, word = flat // total.shape[-1], flat % total.shape[-1]
        longer = ids[rows, beam]
        longer[..., place] = word
        ends = (word == marks.end) | (place + 1 == longest)
        final = (best / (place + 1) ** length_penalty).masked_fill(~ends, -torch.inf)
        done.add(longer[:, :width], final[:, :width], width)
        score, kept = best.masked_fill(ends, -torch.inf).topk(width)
        ids, last = longer[rows, kept], word[rows, kept].flatten()
        state = state[(rows * width + beam[rows, kept]).flatten()]
    return done.ids
