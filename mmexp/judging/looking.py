"""Where an answer comes from: what a model looked at in some rows, and what of their pixels and words moves what it said."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmexp.data.chosen import ChosenSamples
from mmexp.data.loaders import evaluation_loader
from mmexp.data.loading import Loading
from mmexp.judging.attending import Recorder, between, recording, rollout
from mmexp.judging.said import Judged
from mmexp.tasks.views import StepViews, looks_at
from mmexp.types import Batch, Samples

ROLLOUT, GRADIENT = "attention", "gradient"


@dataclass
class Look:
    """One row. `pixels (3, S, S)` uint8 as its encoder reads them, `words` its N words.

    `over_picture` holds maps (h, w) and `over_words` numbers (N,) by how they were found: by attention, by gradient. `seen (N, h,
    w)` is what each word saw of the picture. `label` is the class that was said, None for a model that tells none apart, whose
    `score` is the sum of its similarities.
    """

    pixels: Tensor | None = None
    words: list[str] = field(default_factory=list)
    over_picture: dict[str, Tensor] = field(default_factory=dict)
    over_words: dict[str, Tensor] = field(default_factory=dict)
    seen: Tensor | None = None
    label: int | None = None
    score: float = 0.0


def look(judged: Judged, samples: Samples, rows: Sequence[int]) -> list[Look]:
    """Return where the answers to some rows come from: picture and words that have to do with one score for each row.

    That is the logit of the class that is said, else the similarity of the row's own modalities. Nothing for a model that has
    neither.
    """
    judged.model.eval()
    device = next(judged.model.parameters()).device
    loader = evaluation_loader(ChosenSamples(samples, np.asarray(rows)), judged.model.encoders, Loading(len(rows)))
    batch = _opened(judged, _moved(next(iter(loader)), device))
    views: Any = StepViews(judged.model, batch, 0, 0, lambda tensor: tensor)
    with torch.enable_grad(), recording(judged.model) as recorder:
        score, label = _score(judged, views)
        if score is None:
            return []
        # Weights that ask for a gradient get none: only what was opened is asked.
        asked = [leaf for leaf in (_pixels(judged, batch), _words(judged, batch)) if leaf is not None]
        # Through integers no gradient goes, and what comes of it would be wrong.
        asked = [] if any("quantized" in type(part).__module__ for part in judged.model.modules()) else asked
        found = torch.autograd.grad(score.sum(), asked, allow_unused=True) if asked else ()
    gradients = {id(leaf): gradient for leaf, gradient in zip(asked, found, strict=True) if gradient is not None}
    looks = [Look(score=s.item(), label=None if label is None else int(label[i])) for i, s in enumerate(score)]
    with torch.no_grad():
        _look_at_pictures(judged, batch, recorder, gradients, looks)
        _look_at_words(judged, batch, views, recorder, gradients, looks)
    return looks


def _moved(part: Any, device: torch.device) -> Any:
    return {name: _moved(one, device) for name, one in part.items()} if isinstance(part, dict) else part.to(device)


def _kind(judged: Judged, batch: Batch, kind: str) -> str | None:
    """Return the first modality of a kind that the batch holds, in alphabetical order.

    One whose encoder can tell where its tokens come from: the places of a picture, the words of a text.
    """
    towers = {name: one for name, one in judged.model.encoders.items() if name in batch and one.modality == kind}
    tells = {"image": "grid", "text": "decode"}[kind]
    return next((name for name, one in towers.items() if hasattr(one, tells)), None)


def _opened(judged: Judged, batch: Batch) -> Batch:
    """Return the batch with pixels from 0 to 1 and a blank to add to the words, which both ask for a gradient."""
    batch = dict(batch)
    if picture := _kind(judged, batch, "image"):
        batch[picture] = {**batch[picture], "pixels": (batch[picture]["pixels"].float() / 255).requires_grad_()}
    if text := _kind(judged, batch, "text"):
        ids, width = batch[text]["ids"], getattr(judged.model.encoders[text], "word_dim", None)
        if width:
            batch[text] = {**batch[text], "added": torch.zeros(*ids.shape, width, device=ids.device).requires_grad_()}
    return batch


def _pixels(judged: Judged, batch: Batch) -> Tensor | None:
    name = _kind(judged, batch, "image")
    return batch[name]["pixels"] if name else None


def _words(judged: Judged, batch: Batch) -> Tensor | None:
    name = _kind(judged, batch, "text")
    return batch[name].get("added") if name else None


def _score(judged: Judged, views: Any) -> tuple[Tensor | None, Tensor | None]:
    """Return a score (B,) that has to do with all that was said of each row, and the class (B,) where one was."""
    if classifier := judged.first_with("classify"):
        best = classifier.classify(looks_at(classifier, views)).float().max(1)
        return best.values, best.indices
    embedding = judged.first_with("embed")
    vectors = list(embedding.embed(views.encoded()).values()) if embedding else []
    if len(vectors) < 2:
        return None, None
    return torch.stack([(a * b).sum(1) for a, b in combinations(vectors, 2)]).sum(0).float(), None


def _look_at_pictures(judged: Judged, batch: Batch, recorder: Recorder, gradients: dict, looks: list[Look]) -> None:
    name = _kind(judged, batch, "image")
    if name is None:
        return
    pixels, grid = batch[name]["pixels"], tuple(judged.model.encoders[name].grid)
    reached = _reached(recorder.calls[name], len(looks), prod(grid))
    gradient = gradients.get(id(pixels))
    # The largest of a pixel's three (Simonyan and others, arXiv:1312.6034, section 3), the mean of those of a token's cell.
    cells = None if gradient is None else F.adaptive_avg_pool2d(gradient.abs().amax(1), _cells(grid, pixels))
    for row, one in enumerate(looks):
        one.pixels = (pixels[row].detach() * 255).round().to(torch.uint8).cpu()
        if reached is not None:
            one.over_picture[ROLLOUT] = reached[row].view(grid).cpu()
        if cells is not None:
            one.over_picture[GRADIENT] = cells[row].cpu()


def _cells(grid: tuple[int, ...], pixels: Tensor) -> tuple[int, int]:
    """Return rows and columns of a map of pixels: those of the tokens, at least 8 of each."""
    return max(grid[0], min(8, pixels.shape[2])), max(grid[1], min(8, pixels.shape[3]))


def _reached(layers: list[Tensor], rows: int, count: int) -> Tensor | None:
    """Return the share (B, count) of each patch; tokens that stand before the patches, such as that of the class, speak."""
    if not layers or layers[0].shape[2] < count:
        return None
    mask = torch.ones(rows, layers[0].shape[2], dtype=torch.bool, device=layers[0].device)
    if before := mask.shape[1] - count:
        mask[:, 1:] = False
    reached = rollout(layers, mask)
    return None if reached is None else reached[:, before:]


def _look_at_words(
    judged: Judged, batch: Batch, views: Any, recorder: Recorder, gradients: dict, looks: list[Look]
) -> None:
    name, picture = _kind(judged, batch, "text"), _kind(judged, batch, "image")
    if name is None:
        return
    ids, mask = batch[name]["ids"], batch[name]["mask"]
    encoder = judged.model.encoders[name]
    reached = rollout(recorder.calls[name], mask)
    gradient = gradients.get(id(batch[name].get("added")))
    seen = _seen(judged, views, recorder, name, picture) if picture and recorder.calls["fusion"] else None
    for row, one in enumerate(looks):
        words = _words_of(encoder, ids[row].cpu(), batch[name].get("real", mask)[row].cpu())
        one.words = [text for text, _ in words]
        if reached is not None:
            one.over_words[ROLLOUT] = torch.stack([reached[row][places].sum() for _, places in words]).cpu()
        if gradient is not None:
            one.over_words[GRADIENT] = torch.stack([gradient[row][places].norm() for _, places in words]).cpu()
        if seen is not None:
            of_words = torch.stack([seen[row][places].mean(0) for _, places in words])
            one.seen = of_words.view(-1, *judged.model.encoders[picture].grid).cpu()


def _words_of(encoder: Any, ids: Tensor, mask: Tensor) -> list[tuple[str, list[int]]]:
    """Return the words of `ids (N,)` and the places of the pieces of each; marks of begin and end are no words."""
    edges = getattr(encoder, "word_edges", None)
    words: list[list[int]] = []
    ended = True
    for place in mask.nonzero().flatten().tolist():
        if not encoder.decode(ids[place].view(1, 1))[0]:
            continue
        begins, ends = (True, True) if edges is None else edges[:, ids[place]].tolist()
        if ended or begins or not words:
            words.append([])
        words[-1].append(place)
        ended = ends
    return [(encoder.decode(ids[places][None])[0], places) for places in words]


def _seen(judged: Judged, views: Any, recorder: Recorder, text: str, picture: str) -> Tensor | None:
    encoded = views.encoded()
    sizes = {name: one.tokens.shape[1] for name, one in encoded.items()}
    grid = judged.model.encoders[picture].grid
    if sizes[picture] != prod(grid):
        return None
    return between(recorder.calls["fusion"], sizes, dict(views.fused().parts), text, picture)
