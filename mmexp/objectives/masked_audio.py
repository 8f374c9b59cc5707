"""Masked sounds: hidden patches of the spectrogram heard again (Audio-MAE, arXiv:2207.06405; SSAST, arXiv:2110.09784)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.curriculum import Curriculum
from mmexp.errors import RequestError
from mmexp.objectives.hiding import to_patches
from mmexp.objectives.presence import no_terms
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Fraction


def hidden_cells(rows: int, grid: tuple[int, int], ratio: float, strategy: str, generator: torch.Generator) -> Tensor:
    """Return (B, cells) true for the share `ratio` of the cells of `grid` (mel bands, time) that is hidden in each of `rows`.

    `random` takes single cells, `time` whole columns, `frequency` whole rows, `both` rows and columns, the same share of
    each, which together cover the ratio (the four of Audio-MAE, figure 2).
    """
    bands, columns = grid

    def some(count: int, share: float) -> Tensor:
        return torch.rand(rows, count, generator=generator).argsort(1) < round(share * count)

    if strategy == "random":
        return some(bands * columns, ratio)
    share = 1 - (1 - ratio) ** 0.5 if strategy == "both" else ratio
    lost = torch.zeros(rows, bands, columns, dtype=torch.bool)
    if strategy in ("time", "both"):
        lost = lost | some(columns, share)[:, None]
    if strategy in ("frequency", "both"):
        lost = lost | some(bands, share)[:, :, None]
    return lost.flatten(1)


def hide(spectrogram: Tensor, grid: tuple[int, int], cells: Tensor) -> Tensor:
    """Return `spectrogram (B, M, F)` with `cells (B, cells)` of the grid at the batch's mean."""
    area = cells.view(-1, 1, *grid).float()
    area = F.interpolate(area, size=spectrogram.shape[1:], mode="nearest")[:, 0]
    return torch.where(area > 0.5, spectrogram.mean(), spectrogram)


class MaskedAudio(nn.Module):
    """Hide a `ratio` of the spectrogram by one `strategy`; a linear head on the tokens says what each hidden patch held.

    Raises RequestError for an encoder that works on samples.
    """

    needs = ("tokens", "audio", "inputs")

    def __init__(
        self,
        shape: ModelShape,
        *,
        ratio: Curriculum[Fraction] = 0.75,
        strategy: Literal["random", "time", "frequency", "both"] = "random",
    ):
        super().__init__()
        if not (shape.spectrogram_size and shape.audio_grid):
            raise RequestError("this audio encoder has no spectrogram to hide. Choose encoder/audio=spectrogram.")
        self.ratio, self.strategy, self.grid = ratio, strategy, shape.audio_grid
        bands, frames = shape.spectrogram_size
        self.head = nn.Linear(shape.dims["audio"], bands * frames // (self.grid[0] * self.grid[1]))

    def forward(self, views: Views) -> Terms:
        """Return the squared distance to the hidden patches, each by its own mean and deviation."""
        if "audio" not in views.batch:
            return Terms({})
        rows = views.having("audio")
        if rows is None:
            return no_terms(self, views, ["masked_audio"])
        views = rows
        audio = views.batch["audio"]
        spectrogram, ratio = audio["spectrogram"], views.current(self.ratio)
        cells = hidden_cells(len(spectrogram), self.grid, ratio, self.strategy, views.generator("masked_audio"))
        cells = cells.to(spectrogram.device)
        encoded = views.encode("audio", {**audio, "spectrogram": hide(spectrogram, self.grid, cells)})
        # The silence that fills up a short sound is not to be learned.
        hidden = cells & encoded.mask
        target = to_patches(spectrogram[:, None].float(), self.grid)
        # As for pictures (arXiv:2111.06377, section 4); below a hundredth of the scale a deviation is that of silence.
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-4).sqrt()
        heard, target = self.head(encoded.tokens[hidden]).float(), target[hidden]
        # Summed and divided here: where nothing is hidden, the mean would be NaN.
        return Terms({"masked_audio": F.mse_loss(heard, target, reduction="sum") / max(1, target.numel())})
