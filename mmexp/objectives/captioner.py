"""What the generative objectives share: the words as targets, the encoding that is told, likelihood and writing."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.errors import RequestError
from mmexp.objectives.decoder import Decoder, State
from mmexp.objectives.generation import Decoding
from mmexp.objectives.presence import no_terms
from mmexp.objectives.shown import belongs, shown
from mmexp.objectives.words import real_tokens
from mmexp.rows import take
from mmexp.shapes import Marks, ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Prepared

Reads = Literal["tokens", "pooled"]


def sentences(text: Prepared, marks: Marks) -> tuple[Tensor, Tensor]:
    """Return `ids (B, N)`, begin mark, words, end mark, and `real (B, N)`, whichever of the marks the tokenizer sets itself."""
    ids, mask = text["ids"], real_tokens(text)
    rows, places = torch.arange(len(ids), device=ids.device), torch.arange(ids.shape[1], device=ids.device)
    first = (ids[:, 0] == marks.begin).long()
    ends = mask & (ids == marks.end) & (places >= first[:, None])
    length = torch.where(ends.any(1), ends.long().argmax(1), mask.sum(1)) - first
    words = ids.gather(1, (places + first[:, None]).clamp_max(ids.shape[1] - 1))
    whole = torch.cat([ids.new_full((len(ids), 1), marks.begin), words, words[:, :1]], 1)
    whole[rows, length + 1] = marks.end
    real = torch.arange(whole.shape[1], device=ids.device) < length[:, None] + 2
    longest = int(length.max()) + 2
    return whole[:, :longest].where(real[:, :longest], marks.pad), real[:, :longest]


class Source(nn.Module):
    """The encoding that is put into words, as tokens of width `dim`: of one modality, or `fused` of all but the text."""

    def __init__(self, shape: ModelShape, source: str, reads: Reads, dim: int):
        super().__init__()
        self.fuses = source == "fused"
        self.modalities = [name for name in shape.dims if name != "text"] if self.fuses else [source]
        if source == "text":
            raise RequestError(
                "source=text would predict the text from itself. Choose image, another modality, or fused."
            )
        self.reads = reads
        self.project = nn.Sequential(nn.Linear(shape.source_dim(source), dim), nn.LayerNorm(dim))

    def there(self, views: Views, *more: str) -> Tensor | None:
        """Return which rows (B,) have anything to tell, and all `more` modalities; None where each row has."""
        encoded = views.encoded()
        known = [e.present for e in (encoded[name] for name in more) if e.present is not None]
        told = [encoded[name] for name in self.modalities]
        if all(e.present is not None for e in told):
            known.append(torch.stack([e.there() for e in told]).any(0))
        return torch.stack(known).all(0) if known else None

    def forward(self, views: Views) -> tuple[Tensor, Tensor]:
        """Return `tokens (B, M, dim)` and `mask (B, M)`."""
        encoded = {name: views.encoded()[name] for name in self.modalities}
        one = views.fuse(encoded) if self.fuses else encoded[self.modalities[0]]
        if self.reads == "pooled":
            return self.project(one.pooled)[:, None], torch.ones_like(one.mask[:, :1])
        return self.project(one.tokens), one.mask


class Captioner(nn.Module):
    """Predicts each word of the text from those before it and from the source's encoding.

    A row of a changed batch counts by how far its words are about what its source shows. `validation_rows` of a set are put
    into words when it is validated in training, in no more tokens than the text encoder's context. The loss is `name`.
    """

    teachers_words = False

    def __init__(
        self,
        shape: ModelShape,
        name: str,
        source: Source,
        decoder: Decoder,
        label_smoothing: float,
        decoding: Decoding | None,
        validation_rows: int | None,
    ):
        super().__init__()
        assert shape.marks
        assert shape.context
        self.name, self.marks, self.label_smoothing = name, shape.marks, label_smoothing
        self.source, self.decoder = source, decoder
        decoding = decoding or Decoding()
        self.decoding = replace(decoding, longest=min(decoding.longest, shape.context))
        self.validation_rows = validation_rows

    def given(self, real: Tensor, views: Views) -> Tensor:
        """Return how many of each row's first tokens (B,) are told and not predicted: the begin mark alone."""
        return torch.ones_like(real[:, 0], dtype=torch.long)

    def hidden(self, views: Views, ids: Tensor, given: Tensor) -> Tensor:
        """Return (B, N, D): what is known after each of `ids (B, N)`, of which the first `given (B,)` are told at once."""
        raise NotImplementedError

    def state(self, views: Views) -> State:
        """Return the decoder's state before the first word."""
        raise NotImplementedError

    def forward(self, views: Views) -> Terms:
        """Return the mean cross-entropy of the tokens to predict.

        Rows count that have the source and, unless a teacher writes, a text.
        """
        known = self.source.there(views, *([] if self.teachers_words else ["text"]))
        if known is not None:
            if not known.any():
                return no_terms(self, views, [self.name])
            views = views.only(known.nonzero().squeeze(1))
        ids, real = sentences(views.teacher("captions") if self.teachers_words else views.batch["text"], self.marks)
        given = self.given(real, views)
        predicted = real & (torch.arange(ids.shape[1], device=ids.device) >= given[:, None])
        losses = self._losses(views, ids, given, predicted[:, 1:], self.label_smoothing)
        # What a teacher wrote is of what the source shows, whatever text the batch has.
        told = [*self.source.modalities, *([] if self.teachers_words else ["text"])]
        there = None if known is None else {name: views.encoded()[name].there() for name in told}
        share = belongs({name: shown(views.batch, name) for name in told}, there)
        weight = (predicted[:, 1:] * share[:, None])[predicted[:, 1:]]
        total = weight.sum()
        loss = (losses * weight).sum() / total.where(total > 0, 1)
        return Terms({self.name: loss}, counts={self.name: total})

    def likelihood(self, views: Views) -> tuple[Tensor, Tensor]:
        """Return the negative log-likelihood (B,) of each row's whole text, end mark and all, and its number of tokens (B,).

        Both are 0 for rows that lack the source or the text.
        """
        known = self.source.there(views, "text")
        if known is not None:
            rows = known.nonzero().squeeze(1)
            nll = torch.zeros(len(known), device=known.device)
            if not len(rows):
                return nll, rows.new_zeros(len(known))
            own, tokens = self._likelihood(views.only(rows))
            return nll.index_copy(0, rows, own), tokens.new_zeros(len(known)).index_copy(0, rows, tokens)
        return self._likelihood(views)

    def _likelihood(self, views: Views) -> tuple[Tensor, Tensor]:
        ids, real = sentences(views.batch["text"], self.marks)
        losses = self._losses(views, ids, torch.ones_like(ids[:, 0]), real[:, 1:])
        every = torch.zeros(real[:, 1:].shape, device=ids.device).masked_scatter(real[:, 1:], losses)
        return every.sum(1), real[:, 1:].sum(1)

    def generate(self, views: Views, rows: Tensor) -> Tensor:
        """Return ids (R, `decoding.longest`) of what is written for each of `rows (R,)`, up to the end mark where it came.

        The rows are among those that have the source.
        """
        begin, told = torch.full_like(rows, self.marks.begin), views.only(rows)
        state = self.state(views)[rows] if self.source.there(views) is None else self.state(told)
        return self.decoding(self.decoder.step, state, begin, self.marks, told.row_generator("writing"))

    def _losses(self, views: Views, ids: Tensor, given: Tensor, predicted: Tensor, smoothing: float = 0.0) -> Tensor:
        """Return the cross-entropy (T,) of each token that is `predicted (B, N - 1)`; the first is never."""
        # The others never meet the vocabulary: that product is the largest of all.
        hidden = take(self.hidden(views, ids[:, :-1], given), predicted)
        logits = self.decoder.logits(hidden).float()
        return F.cross_entropy(logits, ids[:, 1:][predicted], reduction="none", label_smoothing=smoothing)


def make_decoder(shape: ModelShape, dim: int, depth: int, heads: int, reads: bool) -> Decoder:
    """Return a decoder of the text encoder's words. Raises RequestError where that encoder cannot tell begin from end."""
    if not (shape.marks and shape.context and shape.vocab_size):
        raise RequestError(
            "this text encoder has no 'marks' of begin and end, no 'context' or no 'vocab_size' (see mmexp.types.Encoder). "
            "Choose encoder/text=transformer or another."
        )
    # Two more than a text may have: the marks of tokenizers that set none.
    return Decoder(shape.vocab_size, dim, depth, heads, shape.context + 2, reads)
