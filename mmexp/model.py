"""The model: encoders, what an adapter has stand behind them, and their fusion. Heads belong to objectives."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmexp.micro_batches import encode_by_rows, fuse_by_rows
from mmexp.prefix import Prefix
from mmexp.shapes import ModelShape, PretrainedSpace, Supervision, TeacherShape
from mmexp.types import Batch, Encoded, Prepared


def _kept(outputs: Mapping[str, Tensor], present: Tensor | None) -> Encoded:
    """Return what an encoder said before; without tokens, where nobody looks at them."""
    pooled = outputs["pooled"]
    if "tokens" in outputs:
        kept = Encoded(outputs["tokens"], pooled, outputs["mask"])
    else:
        blank = pooled.new_empty(len(pooled), 0, pooled.shape[1])
        kept = Encoded(blank, pooled, blank.new_empty(blank.shape[:2], dtype=torch.bool))
    return kept if present is None else emptied(kept, present)


def emptied(encoded: Encoded, present: Tensor) -> Encoded:
    """Return an encoding with nothing left of the rows that are not `present (B,)`."""
    tokens = encoded.tokens.where(present[:, None, None], 0)
    pooled = encoded.pooled.where(present[:, None], 0)
    return Encoded(tokens, pooled, encoded.mask & present[:, None], encoded.parts, present)


def encode_present(
    encoder: nn.Module,
    prepared: Prepared,
    present: Tensor | None,
    rows_at_once: int | None = None,
    encode: Callable[..., Encoded] | None = None,
) -> Encoded:
    """Return the `Encoded` of all rows, of which those `present (B,)` alone are encoded; None: every row is.

    So running statistics learn nothing of blanks. Where no row is present, each has a token that is not real. `encode` stands
    for the encoder's own call.
    """
    encode = encode or encoder
    if present is None:
        return encode_by_rows(encoder, encode, rows_at_once, prepared)
    rows = present.nonzero().squeeze(1)
    if len(rows) == len(present):
        return replace(encode_by_rows(encoder, encode, rows_at_once, prepared), present=present)
    if not len(rows):
        dim: Any = encoder.dim
        pooled = torch.zeros(len(present), dim, device=present.device)
        # As in processes that have such rows: gathering it takes part in their backward.
        pooled.requires_grad_(torch.is_grad_enabled() and any(weight.requires_grad for weight in encoder.parameters()))
        return Encoded(pooled[:, None], pooled, present[:, None], present=present)
    there = {name: tensor[rows] for name, tensor in prepared.items()}
    found = encode_by_rows(encoder, encode, rows_at_once, there)
    tokens, pooled, mask = (_spread(part, rows, len(present)) for part in (found.tokens, found.pooled, found.mask))
    return Encoded(tokens, pooled, mask, found.parts, present)


def _spread(part: Tensor, rows: Tensor, count: int) -> Tensor:
    return part.new_zeros(count, *part.shape[1:]).index_copy(0, rows, part)


class Model(nn.Module):
    """`encode` turns prepared modalities into `Encoded`, `fuse` joins them. Modalities that a batch lacks are left out.

    Both take at most `rows_at_once` rows at a time, None: all.
    """

    rows_at_once: int | None = None

    def __init__(self, encoders: Mapping[str, nn.Module], fusion: nn.Module):
        super().__init__()
        self.encoders: Any = nn.ModuleDict({name: encoders[name] for name in sorted(encoders)})
        self.fusion: Any = fusion
        # What an adapter has stand behind a frozen encoder, whose own outputs may be kept.
        self.alignment: Any = nn.ModuleDict()
        # Of partly frozen encoders what lies below the lowest trained block, and may be kept.
        self.prefixes: Mapping[str, Prefix] = {}
        # Parts with pretrained weights that may be trained, such as `encoders.image`, each with what the names of its adapter's
        # weights contain.
        self.pretrained: Mapping[str, str | None] = {}

    def encode(self, batch: Batch) -> dict[str, Encoded]:
        """Return the `Encoded` of every modality that the batch holds, as kept from before or computed now.

        By `batch["present"]` rows that lack one are left out of its encoding.
        """
        there = [name for name in self.encoders if name in batch.get("encoded", {}) or name in batch]
        return {name: self._aligned(name, self._said(name, batch)) for name in there}

    def _said(self, name: str, batch: Batch) -> Encoded:
        kept, present = batch.get("encoded", {}).get(name, {}), batch.get("present", {}).get(name)
        if "pooled" in kept:
            return _kept(kept, present)
        above = partial(self.prefixes[name].above, self.encoders[name]) if kept else None
        prepared = {**batch.get(name, {}), **kept}
        return encode_present(self.encoders[name], prepared, present, self.rows_at_once, above)

    def _aligned(self, modality: str, encoded: Encoded) -> Encoded:
        if modality not in self.alignment:
            return encoded
        aligned = self.alignment[modality](encoded)
        return aligned if encoded.present is None else emptied(aligned, encoded.present)

    def rest(self) -> None:
        """Keep what is frozen as in evaluation, dropout and all, and let batch norms rest of which anything is frozen.

        That is a part as a whole, or what of it lies below its lowest trained block.
        """
        for name, prefix in self.prefixes.items():
            prefix.rest(self.encoders[name])
        for part in [*self.encoders.values(), self.fusion]:
            if not any(p.requires_grad for p in part.parameters()):
                part.eval()
            for module in part.modules():
                # Where only biases are trained, or a norm has no weights in a part of which some are frozen, it rests too.
                own = list(module.parameters()) or list(part.parameters())
                if hasattr(module, "running_mean") and not all(p.requires_grad for p in own):
                    module.eval()

    def reach(self, progress: float) -> None:
        """Have encoders that change in the course of a run be as they are at `progress`, the share (0 to 1) that is done."""
        for encoder in self.encoders.values():
            if hasattr(encoder, "reach"):
                encoder.reach(progress)

    def encode_one(self, modality: str, prepared: Prepared, keep: Tensor | None = None) -> Encoded:
        """Encode one modality's prepared input, or only the tokens `keep (B, K)` of it."""
        encoder = self.encoders[modality]
        encode = encoder if keep is None else encoder.encode_visible
        return self._aligned(modality, encode_by_rows(encoder, encode, self.rows_at_once, prepared, keep))

    def of(self, modalities: Collection[str]) -> "Model":
        """Return a model of these modalities alone, that shares all with this one."""
        model = Model({name: encoder for name, encoder in self.encoders.items() if name in modalities}, self.fusion)
        model.alignment = nn.ModuleDict({n: layer for n, layer in self.alignment.items() if n in modalities})
        model.prefixes = self.prefixes
        return model

    def fuse(self, encoded: dict[str, Encoded]) -> Encoded:
        """Return the fused encoding: `tokens (B, N, D)`, `pooled (B, D)`."""
        return fuse_by_rows(self.fusion, self.rows_at_once, encoded)

    def pretrained_spaces(self) -> dict[str, PretrainedSpace]:
        """Return the space of every encoder that comes from a pretrained dual encoder, by modality."""
        found = {name: getattr(encoder, "pretrained_space", None) for name, encoder in self.encoders.items()}
        return {name: space for name, space in found.items() if space}

    def _shared_spaces(self) -> dict[str, PretrainedSpace]:
        """Return the spaces of the first dual encoder of which two towers are here."""
        found = self.pretrained_spaces()
        sources = [space.source for space in found.values()]
        shared = next((source for source in sources if sources.count(source) > 1), None)
        return {name: space for name, space in found.items() if space.source == shared}

    def shape(
        self,
        num_classes: int = 0,
        teacher: TeacherShape | None = None,
        supervision: Supervision | None = None,
    ) -> ModelShape:
        """Return the sizes that objectives build their heads from."""
        towers = dict(self.encoders.items())
        image, text, audio = (towers.get(name) for name in ("image", "text", "audio"))
        return ModelShape(
            dims={name: encoder.dim for name, encoder in self.encoders.items()},
            fused_dim=self.fusion.dim,
            vocab_size=getattr(text, "vocab_size", None),
            mask_token_id=getattr(text, "mask_token_id", None),
            word_edges=getattr(text, "word_edges", None),
            marks=getattr(text, "marks", None),
            context=getattr(text, "context", None),
            word_dim=getattr(text, "word_dim", None),
            prepare_text=getattr(text, "prepare", None),
            image_size=getattr(image, "image_size", None),
            grid=getattr(image, "grid", None),
            spectrogram_size=getattr(audio, "spectrogram_size", None),
            audio_grid=getattr(audio, "grid", None),
            spaces=self._shared_spaces(),
            num_classes=num_classes,
            supervision=supervision or Supervision(),
            teacher=teacher or TeacherShape(),
        )
