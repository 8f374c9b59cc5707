"""Pictures blended with others of the batch, and what each row then shows (mixup, arXiv:1710.09412)."""

import torch
from torch import Tensor

from mmexp.draws import generators
from mmexp.types import Batch, Draws, PositiveFloat, Prepared, identity


class Mixup:
    """Blend each picture with that of the next row of the batch that has one; its own share is drawn from Beta(`alpha`, `alpha`).

    The own share is the larger of the two parts (as in MixMatch, arXiv:1905.02249, eq. 9), so that a row's words, which stay,
    fit what is seen most. The order of a batch is random, so the next row is any row. Losses read from `shown` how much of
    which concept a picture shows.
    """

    modality = None

    def __init__(self, alpha: PositiveFloat = 0.2):
        self.alpha = alpha

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """Return the batch with blended pictures, a teacher's too, and `shown["image"]`; one without pictures as it is."""
        if "image" not in batch:
            return batch
        drawn = torch.tensor([rng.beta(self.alpha, self.alpha) for rng in generators(draws, "mixup")]).float()
        share = torch.maximum(drawn, 1 - drawn)
        after = _next(len(share), batch.get("present", {}).get("image"))
        shown = {name: torch.stack([value, value[after]], 1) for name, value in identity(batch).items()}
        shown["share"] = torch.stack([share, 1 - share], 1)
        image = _blended(batch["image"], share, after)
        mixed = {**batch, "image": image, "shown": {**batch.get("shown", {}), "image": shown}}
        if "image" in batch.get("teacher", {}):
            mixed["teacher"] = {**batch["teacher"], "image": _blended(batch["teacher"]["image"], share, after)}
        return mixed


def _next(rows: int, present: Tensor | None) -> Tensor:
    """Return for each row (B,) the next one that has a picture; one that has none is its own."""
    after = torch.arange(rows)
    having = after if present is None else present.nonzero().squeeze(1)
    return after.index_copy(0, having, having.roll(-1))


def _blended(image: Prepared, share: Tensor, after: Tensor) -> Prepared:
    """Return `pixels (B, 3, S, S)` uint8, each with the one `after (B,)` it beneath."""
    pixels = image["pixels"].float()
    blend = torch.lerp(pixels[after], pixels, share[:, None, None, None])
    return {**image, "pixels": blend.round_().to(torch.uint8)}
