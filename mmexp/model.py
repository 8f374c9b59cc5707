"""The model: encoders, what an adapter has stand behind them, and their fusion. Heads belong to objectives."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from mmexp.types import Batch, Encoded, ModelShape, Prepared, Supervision, TeacherShape


def _kept(outputs: Mapping[str, Tensor]) -> Encoded:
    """Return what an encoder said before; without tokens, where nobody looks at them."""
    pooled = outputs["pooled"]
    if "tokens" in outputs:
        return Encoded(outputs["tokens"], pooled, outputs["mask"])
    return Encoded(pooled.new_empty(len(pooled), 0, pooled.shape[1]), pooled, pooled.new_empty(len(pooled), 0).bool())


class Model(nn.Module):
    """`encode` turns prepared modalities into `Encoded`, `fuse` joins them. Modalities that a batch lacks are left out."""

    def __init__(self, encoders: Mapping[str, nn.Module], fusion: nn.Module):
        super().__init__()
        self.encoders: Any = nn.ModuleDict({name: encoders[name] for name in sorted(encoders)})
        self.fusion: Any = fusion
        # What an adapter has stand behind a frozen encoder, whose own outputs may be kept.
        self.alignment: Any = nn.ModuleDict()

    def encode(self, batch: Batch) -> dict[str, Encoded]:
        """Return the `Encoded` of every modality that the batch holds, as kept from before or computed now."""
        kept = batch.get("encoded", {})
        there = [name for name in self.encoders if name in kept or name in batch]
        said = {name: _kept(kept[name]) if name in kept else self.encoders[name](batch[name]) for name in there}
        return {name: self._aligned(name, encoded) for name, encoded in said.items()}

    def _aligned(self, modality: str, encoded: Encoded) -> Encoded:
        return self.alignment[modality](encoded) if modality in self.alignment else encoded

    def encode_one(self, modality: str, prepared: Prepared, keep: Tensor | None = None) -> Encoded:
        """Encode one modality's prepared input, or only the tokens `keep (B, K)` of it."""
        encoder = self.encoders[modality]
        encoded = encoder(prepared) if keep is None else encoder.encode_visible(prepared, keep)
        return self._aligned(modality, encoded)

    def of(self, modalities: Collection[str]) -> "Model":
        """Return a model of these modalities alone, that shares all with this one."""
        model = Model({name: encoder for name, encoder in self.encoders.items() if name in modalities}, self.fusion)
        model.alignment = nn.ModuleDict({n: layer for n, layer in self.alignment.items() if n in modalities})
        return model

    def fuse(self, encoded: dict[str, Encoded]) -> Encoded:
        """Return the fused encoding: `tokens (B, N, D)`, `pooled (B, D)`."""
        return self.fusion(encoded)

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
            num_classes=num_classes,
            supervision=supervision or Supervision(),
            teacher=teacher or TeacherShape(),
        )
