"""Small real parts for tests: encoders of a few parameters, and a step's views without a trainer."""

from collections.abc import Sequence
from string import ascii_lowercase
from typing import Any

import torch
from torch import Tensor, nn

from mmexp.encoders.spectrogram import SpectrogramTransformer
from mmexp.model import Model
from mmexp.shapes import Marks
from mmexp.tasks.views import StepViews
from mmexp.types import Encoded, Prepared


class TinyImage(nn.Module):
    modality = "image"
    sees_parts = True
    adapter_targets = r"patch|mix"

    def __init__(self, dim: int = 16, image_size: int = 8):
        super().__init__()
        self.dim, self.image_size, self.grid = dim, image_size, (2, 2)
        self.patch = nn.Linear(3 * (image_size // 2) ** 2, dim)
        self.mix = nn.Linear(dim, dim)

    def prepare(self, values: Sequence[Any]) -> Prepared:
        size = self.image_size
        pictures = [v.convert("RGB").resize((size, size)).tobytes() for v in values]
        flat = torch.stack([torch.frombuffer(bytearray(p), dtype=torch.uint8) for p in pictures])
        return {"pixels": flat.view(-1, size, size, 3).permute(0, 3, 1, 2).contiguous()}

    def forward(self, prepared: Prepared) -> Encoded:
        pixels = prepared["pixels"]
        pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        half = self.image_size // 2
        cells = pixels.unfold(2, half, half).unfold(3, half, half).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        tokens = self.patch(cells)
        return Encoded(tokens, self.mix(tokens.mean(1)), torch.ones(tokens.shape[:2], dtype=torch.bool))

    def encode_visible(self, prepared: Prepared, keep: Tensor) -> Encoded:
        whole = self(prepared)
        tokens = whole.tokens.gather(1, keep[..., None].expand(-1, -1, self.dim))
        return Encoded(tokens, self.mix(tokens.mean(1)), torch.ones(tokens.shape[:2], dtype=torch.bool))


class TinyText(nn.Module):
    modality = "text"
    adapter_targets = r"mix"
    vocab_size, mask_token_id, context, cut = 32, 1, 8, 0
    marks = Marks(begin=2, end=3, pad=0)

    def __init__(self, dim: int = 12):
        super().__init__()
        self.dim = dim
        self.words = nn.Embedding(self.vocab_size, dim)
        self.mix = nn.Linear(dim, dim)

    def prepare(self, values: Sequence[Any]) -> Prepared:
        rows = [[2, *(4 + ord(c) % 28 for c in v[:6]), 3] for v in values]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        return {"ids": ids, "mask": ids > 0}

    def decode(self, ids: Tensor) -> list[str]:
        letters = {4 + ord(c) % 28: c for c in ascii_lowercase}
        texts = ["".join(letters.get(i, "." if i == 3 else "") for i in row) for row in ids.tolist()]
        return [text.partition(".")[0] for text in texts]

    def forward(self, prepared: Prepared) -> Encoded:
        tokens = self.mix(self.words(prepared["ids"]))
        weight = prepared["mask"].unsqueeze(-1).float()
        return Encoded(tokens, (tokens * weight).sum(1) / weight.sum(1), prepared["mask"])


def tiny_audio() -> SpectrogramTransformer:
    """Return an encoder of half a second: 8 bands and 48 frames, in 2 x 12 tokens."""
    return SpectrogramTransformer(rate=4000, seconds=0.5, mels=8, patch=4, dim=12, depth=1, heads=2)


def sounds_of(rows: int = 8, seed: int = 0, length: int = 1980) -> Prepared:
    """Return noise that begins loud, in one half of the rows only half as long."""
    samples = (
        torch.randn(rows, length, generator=torch.Generator().manual_seed(seed)) / torch.arange(1, length + 1) ** 0.3
    )
    samples[: rows // 2, length // 2 :] = 0
    return tiny_audio().spectrogram(samples)


def batch_of(rows: int = 8, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    words = ["".join(chr(97 + int(c)) for c in torch.randint(26, (5,), generator=generator)) for _ in range(rows)]
    pixels = torch.randint(256, (2, rows, 3, 8, 8), generator=generator).to(torch.uint8)
    return {
        "image": {"pixels": pixels[0]},
        "strong": {"image": {"pixels": pixels[1]}},
        "text": TinyText().prepare(words),
        "index": torch.arange(rows),
        "concept": torch.arange(rows),
        "label": torch.arange(rows) % 3,
        "items": {name: torch.arange(rows) for name in ("image", "text")},
        "targets": torch.rand(rows, 3, generator=generator),
        "number": 5 + 2 * torch.randn(rows, generator=generator),
    }


def views_of(model: Model, batch: dict[str, Any], teach: Any = None, step: int = 0) -> StepViews:
    def alone(tensor: Tensor) -> Tensor:
        return tensor

    return StepViews(model, batch, seed=0, step=step, gather=alone, teach=teach)
