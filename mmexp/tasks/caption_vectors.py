"""Vectors of single captions: where a row has several, each is a query and a candidate of its own."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from mmexp.model import Model
from mmexp.tasks.captions import texts_of
from mmexp.tasks.retrieval import Captions
from mmexp.types import Encoded, Samples

_TEXTS_AT_ONCE = 256


def several_texts(samples: Samples) -> Iterator[tuple[int, int, int, str]]:
    """Yield row, place among the row's texts, item number and text of every caption of the rows that have several."""
    if not hasattr(samples, "texts"):
        return
    there = (getattr(samples, "present", None) or {}).get("text")
    for row in range(len(samples)):
        texts = texts_of(samples, row) if there is None or there[row] else []
        if len(texts) > 1:
            # Without numbers every caption is an item of its own, below the numbers that single rows get.
            items = samples.text_items(row) if hasattr(samples, "text_items") else range(-(row + 2) * 2**20, 0)
            for place, (item, text) in enumerate(zip(items, texts, strict=False)):
                yield row, place, item, text


@torch.no_grad()
def caption_vectors(
    model: Model, embed: Callable[[dict[str, Encoded]], dict[str, Tensor]], samples: Samples
) -> dict[str, Captions]:
    """Return `{"text": Captions}`, empty where no row has several texts or the model reads no text.

    Args:
        model: encodes the texts, in evaluation mode.
        embed: from encodings to unit vectors (B, D) by modality.
        samples: the evaluation set.
    """
    found = list(several_texts(samples)) if "text" in model.encoders else []
    if not found:
        return {}
    encoder: Any = model.encoders["text"]
    device, vectors = next(encoder.parameters()).device, []
    for start in range(0, len(found), _TEXTS_AT_ONCE):
        prepared = encoder.prepare([text for *_, text in found[start : start + _TEXTS_AT_ONCE]])
        encoded = model.encode_one("text", {name: tensor.to(device) for name, tensor in prepared.items()})
        vectors.append(embed({"text": encoded})["text"].cpu())
    row, place, item = (torch.tensor([one[which] for one in found]) for which in range(3))
    return {"text": Captions(torch.cat(vectors), item, row, place)}
