"""The text tower of any open_clip model."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmexp.attention import fast_attention, fasten, masked_mean
from mmexp.encoders.open_clip_blocks import can_spare, pooled_alone
from mmexp.encoders.open_clip_towers import no_weights, source_of, tokenizer_of, tower
from mmexp.encoders.projections import as_module, width_of
from mmexp.encoders.tokens import word_edges, words_of
from mmexp.encoders.unused import retire_unused
from mmexp.rows import take
from mmexp.shapes import Marks, PretrainedSpace
from mmexp.types import Encoded, PositiveInt, Prepared


class OpenClipText(nn.Module):
    """The tower of `name` with its own tokenizer, without the final projection; pooled where open_clip pools.

    `pretrained` is a local file or one of open_clip's tags, which is downloaded; None leaves the weights random.
    Towers without a causal or padding mask were trained on padding too: their captions always fill the context.
    `context_length` is the most tokens of a caption, None the model's own: of a shorter one the last positions are left out, for
    a longer one open_clip resamples them. `cut` counts longer captions. Raises RequestError for unknown names, tags and files.
    """

    modality = "text"
    gives_tokens = True

    def __init__(self, name: str, pretrained: str | None = None, context_length: PositiveInt | None = None):
        super().__init__()
        self.tokenizer = tokenizer_of(name)
        own: int = self.tokenizer.context_length
        longer = context_length if context_length and context_length > own else None
        self.model, report = tower(name, pretrained, "text", context_length=longer)
        self.source, self.logits = source_of(name, pretrained), getattr(self.model, "logits", None)
        fasten(self.model)
        self.pretrained, self.weights_report, self.cut = report is not None, str(report or no_weights(name)), 0
        self.context: int = context_length or own
        self.vocab_size: int = self.model.vocab_size
        self.foreign = hasattr(self.model, "pooler")  # a model of the transformers library inside open_clip
        inner = getattr(self.tokenizer, "tokenizer", None)
        self.pad_token_id: int = getattr(inner, "pad_token_id", None) or 0
        self.mask_token_id = _mask_id(self.tokenizer, inner)
        self.marks = _marks(self.tokenizer, inner, self.pad_token_id)
        self.trims = self.foreign or self.model.attn_mask is not None or self.model.use_pad_mask
        self.trims = self.trims and getattr(self.model, "pool_type", "") != "last"
        # Where padding or a class mark enters the attention by the ids, vectors alone do not tell which tokens are real.
        plain = not self.foreign and self.trims and not self.model.use_pad_mask and self.model.cls_emb is None
        self.word_dim: int | None = self.model.token_embedding.embedding_dim if plain else None
        # In open_clip's own blocks the fused attention is wrapped as a whole: its inner layer alone is never called.
        self.adapter_targets = (
            r".*\.(query|key|value|dense)" if self.foreign else r".*\.resblocks\.\d+\.(attn|mlp\.c_fc|mlp\.c_proj)"
        )
        blank = torch.zeros(1, 2 if self.trims else self.context, dtype=torch.long)
        self.dim = retire_unused(self, {"ids": blank, "mask": torch.ones_like(blank).bool()}).pooled.shape[-1]

    @property
    def word_edges(self) -> Tensor | None:
        """Whether each id begins a word, and whether it ends one (2, V); None where the tokenizer does not tell."""
        inner = getattr(self.tokenizer, "tokenizer", None)
        # CLIP's own tokenizer keeps its pieces in the order of their ids.
        pieces = inner.convert_ids_to_tokens(range(len(inner))) if inner else list(self.tokenizer.encoder)
        return word_edges(pieces, self.vocab_size)

    def prepare(self, values: Sequence[Any]) -> Prepared:
        """Return `ids (B, N)` and `mask (B, N)`; a caption that is cut keeps its end mark.

        Where captions fill the context, `mask` is true everywhere, and `real (B, N)` says which tokens are no padding.
        """
        # One place more than there is tells which captions are too long.
        ids = self.tokenizer(list(values), context_length=self.context + 1)
        lengths = self._lengths(ids)
        long = lengths > self.context
        ids[long, self.context - 1] = ids[long, self.context]
        self.cut += int(long.sum())
        lengths = lengths.clamp_max(self.context)
        width = int(lengths.max()) if self.trims else self.context
        ids, real = ids[:, :width].contiguous(), torch.arange(width) < lengths[:, None]
        return {"ids": ids, "mask": real} if self.trims else {"ids": ids, "mask": torch.ones_like(real), "real": real}

    def _lengths(self, ids: Tensor) -> Tensor:
        """Return up to where each row (B, N) is not padding (B,). The id of padding may also occur inside a caption."""
        places = torch.arange(1, ids.shape[1] + 1)
        return ((ids != self.pad_token_id) * places).amax(1).clamp_min(1)

    def decode(self, ids: Tensor) -> list[str]:
        """Return the texts of `ids (B, N)`, each up to its end mark."""
        tokenizer = getattr(self.tokenizer, "tokenizer", self.tokenizer)
        return [tokenizer.decode(words_of(row, self.marks)).strip() for row in ids.tolist()]

    def forward(self, prepared: Prepared) -> Encoded:
        """Encode `ids (B, N)` with `mask (B, N)`; `added (B, N, word_dim)` is added to the words' vectors."""
        ids, mask = prepared["ids"], prepared["mask"]
        with fast_attention(ids.device, next(self.parameters()).dtype):
            tokens, pooled = self._foreign(ids, mask) if self.foreign else self._own(ids, mask, prepared.get("added"))
        return Encoded(tokens, pooled, mask[:, : tokens.shape[1]])

    @property
    def projects(self) -> bool:
        """Whether `project` is open_clip's own way into the common space."""
        return self.foreign or self.model.pool_type != "none"

    def project(self, encoded: Encoded) -> Tensor:
        """Return (B, D) in open_clip's common space, of its own encoding."""
        projection = self.model.proj if self.foreign else self.model.text_projection
        if projection is None:
            return encoded.pooled
        return projection(encoded.pooled) if isinstance(projection, nn.Module) else encoded.pooled @ projection

    @property
    def pretrained_space(self) -> PretrainedSpace | None:
        """The common space of the model, None where its weights are random or it does not project what is pooled here."""
        if not (self.pretrained and self.projects and self.logits):
            return None
        projection = as_module(self.model.proj if self.foreign else self.model.text_projection)
        return PretrainedSpace(self.source, projection, width_of(projection, self.dim), self.logits[0], self.logits[1])

    def _foreign(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        out = self.model.transformer(input_ids=ids, attention_mask=mask.long())
        return out.last_hidden_state, self.model.pooler(out, mask.long())

    def _own(self, ids: Tensor, mask: Tensor, added: Tensor | None) -> tuple[Tensor, Tensor]:
        """As open_clip's forward, with the attention mask cut to the batch's length."""
        tokens, seen = self.model._embeds(ids)
        tokens = tokens if added is None else tokens + added.to(tokens.dtype)
        seen = seen if seen is None else seen[..., : tokens.shape[1], : tokens.shape[1]]
        # The end mark is the last real token; looking for its id would go wrong where ids were hidden or changed.
        kind, ends = self.model.pool_type, mask.sum(1) - 1
        if not self.gives_tokens and self.word_dim and kind in ("argmax", "eos") and can_spare(self.model.transformer):
            end = self.model.ln_final(pooled_alone(self.model.transformer, tokens, ends, seen))
            return end[:, 1:], end[:, 0]
        tokens = self.model.ln_final(self.model.transformer(tokens, attn_mask=seen))
        if self.model.cls_emb is not None:
            return tokens[:, :-1], tokens[:, -1]
        if kind in ("first", "last"):
            return tokens, tokens[:, 0 if kind == "first" else -1]
        if kind == "none":
            return tokens, masked_mean(tokens, mask)
        return tokens, take(tokens.flatten(0, 1), torch.arange(len(ids), device=ids.device) * tokens.shape[1] + ends)


def _mask_id(tokenizer: Any, inner: Any) -> int:
    """Return a mark that no caption holds inside: CLIP's tokenizer has none for masking, its start mark serves."""
    names = ("mask_token_id", "unk_token_id", "bos_token_id")
    found = [getattr(inner, name, None) for name in names] + [getattr(tokenizer, "sot_token_id", None), 0]
    return next(int(mark) for mark in found if mark is not None)


def _marks(tokenizer: Any, inner: Any, pad: int) -> Marks:
    """Return CLIP's own marks, or those of a tokenizer of the transformers library; SigLIP's has none for the begin."""
    if inner is None:
        return Marks(tokenizer.sot_token_id, tokenizer.eot_token_id, pad)
    first = [getattr(inner, f"{name}_token_id", None) for name in ("bos", "cls")]
    last = [getattr(inner, f"{name}_token_id", None) for name in ("eos", "sep")]
    begin, end = (next((mark for mark in found if mark is not None), pad) for found in (first, last))
    return Marks(begin, end, pad)
