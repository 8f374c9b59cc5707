"""What the report shows: what was retrieved, what was taken for what, what was written, how samples were augmented."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmexp.data.chosen import texts_of
from mmexp.data.loading import PreparedSamples
from mmexp.data.orders import AS_IT_IS
from mmexp.runs.report import Answer, Captioned, Confusion, Gallery, Query, Retrieved, Version
from mmexp.tasks.base import Task
from mmexp.tasks.captions import written
from mmexp.tasks.evaluation import Gathered
from mmexp.tasks.retrieval import Direction, Distinct
from mmexp.types import DataSource, Samples

QUERIES, RETRIEVED = 8, 6
SAMPLES, VERSIONS = 4, 5
RIGHT, WRONG = 8, 4
CAPTIONS = 12


def make_gallery(task: Task, source: DataSource, train: PreparedSamples) -> Gallery:
    """Return retrieval in all directions on every test set last evaluated, and the confusion of classes on `test`.

    Of `train` it shows some samples as they are and augmented; none where there is no augmentation.
    """
    retrieval: dict[str, list[Query]] = {}
    confusion, answers, captions = None, [], []
    for split, gathered in task.gathered.items():
        whole = gathered.stacked()
        if split.startswith("test"):
            retrieval |= _directions(source, split, gathered, task)
        if split == "test" and "logits" in whole:
            confusion = _confusion(whole, list(source.classes))
            answers = _answers(source, source.splits[split], whole)
        if split == "test" and "caption" in whole:
            captions = _captions(source, split, written(whole, task.model.encoders["text"].decode))
    varied = train.variation is not None and train.variation.augmentations
    strip = augmented(train) if varied else []
    return Gallery(retrieval, confusion, answers=answers, augmented=strip, captions=captions)


def augmented(train: PreparedSamples) -> list[list[Version]]:
    """Return for samples spread evenly over the set: as it is, then as it is read in each of the first epochs."""
    rows = torch.linspace(0, len(train) - 1, SAMPLES + 2)[1:-1].long().unique().tolist()
    epochs = [_read(train, rows, epoch) for epoch in (AS_IT_IS, *range(VERSIONS))]
    return [list(versions) for versions in zip(*epochs, strict=True)]


def _read(train: PreparedSamples, rows: list[int], epoch: int) -> list[Version]:
    places = [(row, epoch) for row in rows]
    batch = train.inputs(places, list(train.readers))
    pixels = batch["image"]["pixels"] if "image" in batch else [None] * len(rows)
    texts = train.values("text", places, train.variation) if "text" in batch else [""] * len(rows)
    pictures = [None if p is None else Image.fromarray(p.permute(1, 2, 0).numpy()) for p in pixels]
    return [Version(picture, text) for picture, text in zip(pictures, texts, strict=True)]


def _directions(source: DataSource, split: str, gathered: Gathered, task: Task) -> dict[str, list[Query]]:
    """Return the queries of every direction between modalities that any row has both of, those of texts first."""
    ways = {(query, key): way for query, key, way in gathered.directions()}
    samples, names = source.splits[split], {name for names in ways for name in names}
    kinds = {name: task.model.encoders[name].modality for name in source.modalities if name in names}
    return {
        f"{query} to {key}, {split}": _queries(samples, ways[query, key], query, key, kinds)
        for query, key in sorted(ways, key=lambda names: [_texts_first(name) for name in names])
    }


def _texts_first(name: str) -> tuple[bool, str]:
    return name != "text", name


def _queries(samples: Samples, way: Direction, query: str, key: str, kinds: dict[str, str]) -> list[Query]:
    """Return queries spread evenly over the distinct ones, each with its best candidates."""
    # Of many directions fewer queries, for a page has no room for all.
    chosen = spread(torch.arange(len(way.query)), QUERIES if len(kinds) == 2 else QUERIES // 2)
    found = []
    for one, scores in zip(chosen, way.query.vectors[chosen] @ way.key.vectors.T, strict=True):
        relevant = way.relevant(slice(one, one + 1))[0]
        best = [
            Retrieved(
                score=float(scores[other]), right=bool(relevant[other]), **_item(samples, way.key, other, key, kinds)
            )
            for other in scores.argsort(descending=True)[:RETRIEVED].tolist()
        ]
        found.append(Query(retrieved=best, **_item(samples, way.query, one, query, kinds)))
    return found


def _item(samples: Samples, distinct: Distinct, number: int, name: str, kinds: dict[str, str]) -> dict[str, Any]:
    """Return what is shown of a distinct item: that of the first row which holds it; of several texts its own."""
    row, place = int(distinct.row[number]), int(distinct.place[number])
    shown = _told(samples, row, name, kinds)
    return {**shown, "text": texts_of(samples, row)[place]} if place >= 0 else shown


def _has(samples: Samples, row: int, name: str) -> bool:
    present = getattr(samples, "present", None) or {}
    return name not in present or bool(present[name][row])


def _value(source: DataSource, samples: Samples, row: int, modality: str) -> Any:
    """Return a row's picture or text, None where the data or the row has none."""
    return samples.read(row, modality) if modality in source.modalities and _has(samples, row, modality) else None


def _told(samples: Samples, row: int, name: str, kinds: dict[str, str]) -> dict[str, Any]:
    """Return what is shown of a row's modality: a text, or a picture or sound with the row's text where it has one."""
    kind, value = kinds[name], samples.read(row, name)
    beside = "text" in kinds and _has(samples, row, "text")
    text = value if kind == "text" else samples.read(row, "text") if beside else samples.where(row)
    return {
        "picture": value if kind == "image" else film_strip(value) if kind == "video" else None,
        "text": str(text),
        "sound": value if kind == "audio" else None,
    }


def film_strip(frames: Any) -> Image.Image:
    """Return four frames of a video, evenly spaced, in the corners of one picture: rows from left to right."""
    places = np.linspace(0, len(frames) - 1, 4).round().astype(int)
    first, second, third, fourth = (np.asarray(frames[place]) for place in places)
    rows = np.concatenate([first, second], 1), np.concatenate([third, fourth], 1)
    return Image.fromarray(np.concatenate(rows))


def spread(rows: Tensor, count: int) -> list[int]:
    """Return up to `count` of the rows, evenly spread."""
    return rows[torch.linspace(0, len(rows) - 1, min(count, len(rows))).round().long()].tolist()


def _captions(source: DataSource, split: str, said: dict[int, str]) -> list[Captioned]:
    """Return what was written for rows spread evenly over the set, beside their own texts."""
    samples = source.splits[split]
    return [
        Captioned(
            _value(source, samples, row, "image"),
            str(samples.read(row, "text")),
            said[row],
        )
        for row in spread(torch.tensor(sorted(said)), CAPTIONS)
    ]


def _answers(source: DataSource, samples: Samples, whole: dict[str, Tensor]) -> list[Answer]:
    """Return some rows that were answered wrong, then some that were answered right."""
    sure, said = whole["logits"].float().softmax(1).max(1)
    # Of a row that lacks what is looked at nothing was said.
    label = whole["label"].where(~sure.isnan(), -1)
    wrong, right = ((label >= 0) & (said != label)).nonzero().flatten(), (said == label).nonzero().flatten()
    return [
        Answer(
            _value(source, samples, row, "image"),
            str(_value(source, samples, row, "text") or ""),
            source.classes[int(said[row])],
            float(sure[row]),
            source.classes[int(label[row])],
        )
        for row in (*spread(wrong, WRONG), *spread(right, RIGHT))
    ]


def _confusion(whole: dict[str, Tensor], classes: list[str]) -> Confusion:
    labelled = (whole["label"] >= 0) & ~whole["logits"].isnan().any(1)
    pairs = whole["label"][labelled] * len(classes) + whole["logits"][labelled].argmax(1)
    counts = pairs.bincount(minlength=len(classes) ** 2).view(len(classes), len(classes))
    return Confusion(classes, counts.numpy())
