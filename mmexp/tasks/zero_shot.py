"""Zero-shot classification: the class whose words are nearest to a picture or a sound (CLIP, arXiv:2103.00020, 3.1)."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from mmexp.model import Model
from mmexp.tasks.evaluation import classification_metrics
from mmexp.types import Encoded

_TEXTS_AT_ONCE = 256


@torch.no_grad()
def class_vectors(
    model: Model, embed: Callable[[dict[str, Encoded]], dict[str, Tensor]], texts: Sequence[Sequence[str]]
) -> Tensor:
    """Return a unit vector (C, D) for each class: the mean of the unit vectors of its `texts`, with length 1 again."""
    encoder = model.encoders["text"]
    device = next(encoder.parameters()).device
    flat = [text for of_class in texts for text in of_class]
    vectors = []
    for start in range(0, len(flat), _TEXTS_AT_ONCE):
        prepared = encoder.prepare(flat[start : start + _TEXTS_AT_ONCE])
        encoded = model.encode_one("text", {name: tensor.to(device) for name, tensor in prepared.items()})
        vectors.append(embed({"text": encoded})["text"])
    return F.normalize(torch.cat(vectors).unflatten(0, (len(texts), -1)).mean(1), dim=-1)


def zero_shot_metrics(
    vectors: Mapping[str, Tensor], classes: Tensor, label: Tensor, present: Mapping[str, Tensor] = MappingProxyType({})
) -> dict[str, float]:
    """Return `zero_shot_accuracy`, chance (one of C classes at random) and macro F1 over the labelled rows.

    `vectors` are (N, D) of each modality, `classes (C, D)`, `label (N,)` -1 for none. With pictures and sounds both, the
    modality stands in front of the names. Nothing where no row has a label, or none a modality: `present (N,)` by its name.
    """
    asked = [name for name in vectors if name != "text"]
    numbers: dict[str, float] = {}
    for name in asked:
        front = f"{name}_zero_shot" if len(asked) > 1 else "zero_shot"
        there = present.get(name, torch.ones_like(label, dtype=torch.bool))
        if not (label[there] >= 0).any():
            continue
        found = classification_metrics(vectors[name][there].float() @ classes.T, label[there])
        numbers |= {f"{front}_{metric}": value for metric, value in found.items()}
        numbers[f"{front}_accuracy_chance"] = 1 / len(classes)
    return numbers
