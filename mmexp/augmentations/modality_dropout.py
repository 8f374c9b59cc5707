"""Modalities left out row by row, so that a model learns to do without any of them (ModDrop, arXiv:1501.00102)."""

import torch

from mmexp.types import Batch, Draws, Fraction, modalities_of


class ModalityDropout:
    """Each modality of each row is dropped with `probability`, but never the last: where all would go, one drawn evenly stays.

    It only says in `present` what is gone, of what was there. So it acts on encodings that were kept, too, and a teacher with
    inputs of its own still sees all.
    """

    modality = None
    mixes = False

    def __init__(self, probability: Fraction = 0.3):
        self.probability = probability

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """Return the batch with `present` of every modality."""
        names, everywhere = modalities_of(batch), torch.ones_like(batch["index"], dtype=torch.bool)
        there = torch.stack([batch.get("present", {}).get(name, everywhere) for name in names], 1)
        drawn = torch.cat([torch.from_numpy(draws(f"modality_dropout {name}", 1)) for name in names], 1)
        last = drawn.masked_fill(~there, -1).argmax(1, keepdim=True)
        stays = (drawn >= self.probability).scatter(1, last, True)
        present = dict(zip(names, (there & stays).unbind(1), strict=True))
        return {**batch, "present": {**batch.get("present", {}), **present}}
