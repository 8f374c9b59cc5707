"""Captions swapped between rows: pairs that do not belong together, for losses that tell such from true ones."""

import torch
from torch import Tensor

from mmexp.types import Batch, Draws, Fraction, identity


class Swap:
    """A `share` of the rows of a batch, of those that have one, pass their texts on to one another.

    Losses read from `shown` what each text is about: `matching` learns that such a pair is false, `contrastive` looks for each
    picture's text in its new row.
    """

    modality = None

    def __init__(self, share: Fraction = 0.1):
        self.share = share

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """Return the batch with some rows' texts in each other's place, a teacher's too, and `shown["text"]`."""
        if "text" not in batch:
            return batch
        chosen = torch.from_numpy(draws("swap", 1)[:, 0] < self.share)
        if (there := batch.get("present", {}).get("text")) is not None:
            chosen = chosen & there
        chosen = chosen.nonzero().squeeze(1)
        order = torch.arange(len(batch["index"]))
        order[chosen] = chosen.roll(-1)
        shown = {name: value[order, None] for name, value in identity(batch).items()}
        shown["share"] = torch.ones(len(order), 1)
        swapped = _in_order(batch, order) | {"shown": {**batch.get("shown", {}), "text": shown}}
        return swapped | ({"teacher": _in_order(batch["teacher"], order)} if "teacher" in batch else {})


def _in_order(part: Batch, order: Tensor) -> Batch:
    if "text" not in part:
        return part
    return {**part, "text": {name: tensor[order] for name, tensor in part["text"].items()}}
