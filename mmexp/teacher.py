"""A model that only says what it knows: vectors, features, attention, classes, texts."""

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mmexp.model import Model
from mmexp.shapes import TeacherShape
from mmexp.tasks.captions import write
from mmexp.tasks.views import StepViews, having_source, looks_at
from mmexp.types import Batch, Encoded, Said

# The method by which an objective can say a kind, and what is said of a teacher none of whose objectives can.
METHODS = {"vectors": "embed", "logits": "classify", "captions": "generate"}
LACKING = {
    "vectors": "learned no common space (no objective such as contrastive)",
    "logits": "tells no classes apart (no objective such as classify)",
    "captions": "writes no texts (no objective such as caption)",
    "attention": "has no tower whose tokens lie on a grid",
}


class Teacher(nn.Module):
    """`model` with the heads of its `objectives`, of which it says the kinds `says`, and computes nothing else."""

    def __init__(self, model: Model, objectives: Mapping[str, nn.Module], says: Sequence[str]):
        super().__init__()
        self.model, self.objectives, self.says = model, nn.ModuleDict(objectives), tuple(says)

    def lacks(self) -> str | None:
        """Return what is said of the first kind that it cannot say, None where it can say all."""
        for kind in self.says:
            if kind in METHODS and self._first(METHODS[kind]) is None:
                return LACKING[kind]
        grids = any(hasattr(encoder, "grid") for encoder in self.model.encoders.values())
        return LACKING["attention"] if "attention" in self.says and not grids else None

    @torch.no_grad()
    def shape(self) -> TeacherShape:
        """Return the widths of what it says, as it says them of one blank row."""
        was_training = self.training
        encoders = dict(self.model.encoders.items())
        blank: Batch = {name: encoder.prepare([_blank(encoder.modality)]) for name, encoder in encoders.items()}
        # Texts are drawn by row number.
        said = self.eval()({**blank, "index": torch.zeros(1, dtype=torch.long)})
        self.train(was_training)
        grids = {name: tuple(encoder.grid) for name, encoder in encoders.items() if hasattr(encoder, "grid")}
        return TeacherShape({name: tensor.shape[1] for name, tensor in said.items()}, grids)

    def forward(self, batch: Batch) -> Said:
        """Return what it says of a batch as its own encoders prepared it."""
        views = StepViews(self.model, batch, 0, 0, lambda tensor: tensor)
        return {name: tensor for kind in self.says for name, tensor in getattr(self, f"_{kind}")(views).items()}

    def decode(self, ids: Tensor) -> list[str]:
        """Return the texts of its captions' `ids (B, L)`."""
        return self.model.encoders["text"].decode(ids)

    def _first(self, method: str) -> Any:
        return next((o for o in self.objectives.values() if hasattr(o, method)), None)

    def _vectors(self, views: StepViews) -> Said:
        return {f"vectors/{name}": t for name, t in self._first("embed").embed(views.encoded()).items()}

    def _pooled(self, views: StepViews) -> Said:
        return {f"pooled/{name}": encoded.pooled for name, encoded in views.encoded().items()}

    def _attention(self, views: StepViews) -> Said:
        encoders = self.model.encoders
        return {f"attention/{m}": energy(e) for m, e in views.encoded().items() if hasattr(encoders[m], "grid")}

    def _logits(self, views: StepViews) -> Said:
        classifier = self._first("classify")
        logits = classifier.classify(looks_at(classifier, views))
        known = having_source(classifier, views)
        # NaN where it sees nothing: not known.
        return {"logits": logits if known is None else logits.masked_fill(~known[:, None], nan)}

    def _captions(self, views: StepViews) -> Said:
        writer = self._first("generate")
        first = next(iter(views.encoded().values())).pooled
        ids = write(writer, views, torch.arange(len(first), device=first.device), writer.marks.pad)
        return {"captions/ids": ids, "captions/mask": ids != writer.marks.pad}


def energy(encoded: Encoded) -> Tensor:
    """Return the mean square (B, N) of each token, the attention map of arXiv:1612.03928 up to a factor."""
    return encoded.tokens.float().square().mean(-1)


def _blank(kind: str) -> Any:
    picture = Image.new("RGB", (64, 64))
    return {"image": picture, "text": "a", "audio": (np.zeros(16000, np.float32), 16000), "video": [picture] * 2}[kind]
