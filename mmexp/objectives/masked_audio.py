"""Masked sounds: hidden patches of the spectrogram heard again (Audio-MAE, arXiv:2207.06405; SSAST, arXiv:2110.09784)."""

from typing import Literal

import torch
from torch import Tensor, nn

from mmexp.curriculum import Curriculum
from mmexp.draws import RowGenerator
from mmexp.errors import RequestError
from mmexp.objectives.hiding import MaskPatch, normalized, patch_losses, to_patches
from mmexp.objectives.presence import count, mean, no_terms
from mmexp.rows import take
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views
from mmexp.types import Fraction, NonNegativeFloat


def hidden_cells(rows: int, grid: tuple[int, int], ratio: float, strategy: str, generator: RowGenerator) -> Tensor:
    """Return (B, cells) true for the share `ratio` of the cells of `grid` (mel bands, time) that is hidden in each of `rows`.

    `random` takes single cells, `time` whole columns, `frequency` whole rows, `both` rows and columns, the same share of
    each, which together cover the ratio (the four of Audio-MAE, figure 2).
    """
    bands, columns = grid

    def some(count: int, share: float) -> Tensor:
        return generator.rand(rows, count).argsort(1) < round(share * count)

    if strategy == "random":
        return some(bands * columns, ratio)
    share = 1 - (1 - ratio) ** 0.5 if strategy == "both" else ratio
    lost = torch.zeros(rows, bands, columns, dtype=torch.bool)
    if strategy in ("time", "both"):
        lost = lost | some(columns, share)[:, None]
    if strategy in ("frequency", "both"):
        lost = lost | some(bands, share)[:, :, None]
    return lost.flatten(1)


def mean_of_real(spectrogram: Tensor, mask: Tensor) -> Tensor:
    """Return the mean (B, 1, 1, 1) of each `spectrogram (B, M, F)` over its real frames, `mask (B, F)`."""
    frames = spectrogram.float().mean(1) * mask
    return (frames.sum(1) / mask.sum(1).clamp_min(1)).view(-1, 1, 1, 1)


class MaskedAudio(nn.Module):
    """Hide a `ratio` of the spectrogram by one `strategy`; a linear head on the tokens says what each hidden patch held.

    In the place of a hidden patch stands a learned one, added to the mean of the clip. Targets are patches normalized by their
    own mean and variance, to which `norm_eps` is added: below a hundredth of the scale a deviation is that of silence.

    Raises RequestError for an encoder that works on samples.
    """

    needs = ("tokens", "audio", "inputs")

    def __init__(
        self,
        shape: ModelShape,
        *,
        ratio: Curriculum[Fraction] = 0.75,
        strategy: Literal["random", "time", "frequency", "both"] = "random",
        norm_eps: NonNegativeFloat = 1e-4,
    ):
        super().__init__()
        if not (shape.spectrogram_size and shape.audio_grid):
            raise RequestError("this audio encoder has no spectrogram to hide. Choose encoder/audio=spectrogram.")
        self.ratio, self.strategy, self.grid = ratio, strategy, shape.audio_grid
        bands, frames = shape.spectrogram_size
        self.norm_eps = norm_eps
        self.head = nn.Linear(shape.dims["audio"], bands * frames // (self.grid[0] * self.grid[1]))
        self.mask_patch = MaskPatch(1, (bands, frames), self.grid)

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
        cells = hidden_cells(len(spectrogram), self.grid, ratio, self.strategy, views.row_generator("masked_audio"))
        cells = cells.to(spectrogram.device)
        centre = mean_of_real(spectrogram, audio["mask"])
        masked = self.mask_patch(spectrogram[:, None], cells, centre)[:, 0].to(spectrogram.dtype)
        encoded = views.encode("audio", {**audio, "spectrogram": masked})
        # The silence that fills up a short sound is not to be learned.
        hidden = cells & encoded.mask
        target = to_patches(spectrogram[:, None].float(), self.grid)
        each = patch_losses(self.head(take(encoded.tokens, hidden)), normalized(target, self.norm_eps), hidden)
        return Terms({"masked_audio": mean(each)}, counts={"masked_audio": count(each, len(each))})
