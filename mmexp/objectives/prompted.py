"""Learned words before the names of the classes (CoOp, arXiv:2109.01134)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mmexp.errors import RequestError
from mmexp.objectives.classify import label_loss
from mmexp.objectives.heads import first_log_scale, one_space, scale_limit
from mmexp.objectives.presence import no_terms
from mmexp.objectives.prompts import Prompts
from mmexp.objectives.shown import shown
from mmexp.objectives.similarity import clamp_log_scale, similarity
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Encoded, NonNegativeInt, PositiveFloat, PositiveInt, Prepared

_SPREAD = 0.02  # as CoOp's own vectors start
_MAX_SCALE = 100.0


class Space(nn.Module):
    """Heads into a common space and its temperature, with the names that `contrastive` gives them."""

    def __init__(self, shape: ModelShape, source: str, embed_dim: int, temperature: float, pretrained: bool):
        super().__init__()
        names = (source, "text")
        spaces = {n: shape.spaces[n] for n in names} if pretrained and {*names} <= shape.spaces.keys() else {}
        self.heads = one_space({name: shape.dims[name] for name in names}, embed_dim, spaces)
        self.log_scale, self.pretrained = first_log_scale(temperature, spaces), sorted(spaces)
        self.max_scale = scale_limit(_MAX_SCALE, spaces)

    def vectors(self, modality: str, encoded: Encoded) -> Tensor:
        """Return unit vectors (B, embed_dim)."""
        return self.heads({modality: encoded})[modality]

    def logits(self, queries: Tensor, classes: Tensor) -> Tensor:
        """Return (B, C) of `queries (B, D)` and `classes (C, D)`, unit vectors both."""
        return self.log_scale.exp() * similarity(queries, classes)


class Prompted(nn.Module):
    """Cross-entropy on `label` of a picture's (or sound's) similarity to the texts of the classes, `template` with the name.

    Before each text stand `context_length` learned vectors, the same for all classes or `class_specific`. What is learned
    is how far each is from where it starts: from the words of `init`, of which there must be so many (null: as many as it
    has), else from the mask mark and a little beside it. The common space is that of
    the objective `space` in the loaded weights, or with `pretrained_heads` that of the dual encoder (CLIP, SigLIP) from which
    both towers come. It rests unless `train_space`; it is learned where there is neither. Raises RequestError where context and
    name are more than a text may have.
    """

    needs = ("{source}", "text", "labels", "word_vectors")
    sees_step = True

    def __init__(
        self,
        shape: ModelShape,
        *,
        source: Literal["image", "audio"] = "image",
        template: str = "{}",
        context_length: NonNegativeInt | None = 4,
        init: str | None = None,
        class_specific: bool = False,
        space: str = "contrastive",
        train_space: bool = False,
        embed_dim: PositiveInt = 256,
        temperature: PositiveFloat = 0.07,
        pretrained_heads: bool = True,
    ):
        super().__init__()
        assert shape.word_dim and shape.mask_token_id is not None, "the need `word_vectors` was not checked"
        self.source, self.train_space = source, train_space
        self.space = Space(shape, source, embed_dim, temperature, pretrained_heads)
        words = _words(shape, init) if init else [shape.mask_token_id] * (context_length or 0)
        if init and context_length not in (None, len(words)):
            raise RequestError(f"init='{init}' has {len(words)} tokens. Set context_length to that, or to null.")
        texts = [text for (text,) in Prompts([template]).texts(shape.supervision.classes)]
        # Of the data, so no checkpoint keeps them: what was learned may stand before the names of other classes.
        ids, mask, first = with_context(shape, texts, words)
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("mask", mask, persistent=False)
        self.places = slice(first, first + len(words))
        self.context: Tensor | None = None
        if words:
            context = torch.zeros(shape.num_classes if class_specific else 1, len(words), shape.word_dim)
            self.context = nn.Parameter(context if init else nn.init.normal_(context, std=_SPREAD))

    ids: Tensor
    mask: Tensor

    def clamp_parameters(self) -> None:
        """Keep a trained space's logit scale at or below CLIP's 100, or the pretrained scale where that is larger.

        The task calls this after each optimizer step.
        """
        clamp_log_scale(self.space.log_scale, self.space.max_scale)

    def prepared(self) -> Prepared:
        """Return the texts of the classes as the text encoder takes them, with what was learned."""
        prepared = {"ids": self.ids, "mask": self.mask}
        if self.context is not None:
            added = self.context.new_zeros(*self.ids.shape, self.context.shape[-1])
            added[:, self.places] = self.context
            prepared["added"] = added
        return prepared

    def classify(self, views: Views) -> Tensor:
        """Return class logits (B, C); the texts of the classes are encoded once for the batch."""
        classes = self.space.vectors("text", views.encode("text", self.prepared()))
        return self.space.logits(self.space.vectors(self.source, views.source(self.source)), classes)

    def forward(self, views: Views) -> Terms:
        """Return the cross-entropy over the rows with a label and the source, and the accuracy."""
        rows = views.having(self.source)
        if rows is None:
            return no_terms(self, views, ["prompted"], ["accuracy"])
        views = rows
        logits, label = self.classify(views), views.batch["label"]
        right = ((logits.argmax(-1) == label) & (label >= 0)).sum()
        loss, counted = label_loss(logits, shown(views.batch, self.source))
        accuracy = right / (label >= 0).sum().clamp_min(1)
        return Terms({"prompted": loss}, {"accuracy": accuracy}, {"prompted": counted})


def _prepared(shape: ModelShape, texts: list[str]) -> list[Tensor]:
    """Return the token ids of each text, with the tokenizer's own marks."""
    assert shape.prepare_text is not None
    prepared = shape.prepare_text(texts)
    return [ids[mask] for ids, mask in zip(prepared["ids"], prepared["mask"], strict=True)]


def _words(shape: ModelShape, text: str) -> list[int]:
    """Return the token ids of a text without the marks of begin and end."""
    (bare,), (ids,) = _prepared(shape, [""]), _prepared(shape, [text])
    first = _begins(shape, ids)
    return ids[first : len(ids) - (len(bare) - first)].tolist()


def _begins(shape: ModelShape, ids: Tensor) -> int:
    """Return how many marks a text begins with, one or none."""
    return int(shape.marks is not None and len(ids) > 0 and int(ids[0]) == shape.marks.begin)


def with_context(shape: ModelShape, texts: list[str], words: list[int]) -> tuple[Tensor, Tensor, int]:
    """Return `ids (C, N)` and `mask (C, N)` of the texts with `words` put before each, and the place of the first of these.

    Raises RequestError where that is more than a text may have.
    """
    assert shape.marks is not None and shape.context is not None
    rows = _prepared(shape, texts) if texts else [torch.zeros(0, dtype=torch.long)]
    first = _begins(shape, rows[0])
    put = torch.tensor(words, dtype=torch.long)
    rows = [torch.cat([row[:first], put, row[first:]]) for row in rows]
    longest = max(range(len(rows)), key=lambda i: len(rows[i]))
    if len(rows[longest]) > shape.context:
        raise RequestError(
            f"{len(words)} context tokens and '{texts[longest]}' are {len(rows[longest])} tokens, and a text has at most "
            f"{shape.context}. Set a smaller context_length or a larger context of the text encoder."
        )
    ids = pad_sequence(rows, batch_first=True, padding_value=shape.marks.pad)
    lengths = torch.tensor([len(row) for row in rows])
    return ids, torch.arange(ids.shape[1]) < lengths[:, None], first
