"""`report.html`: one self-contained page about a run, with its curves, numbers and pictures."""

import json
import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml
from PIL import Image

from mmexp.runs.curves import draw, history
from mmexp.runs.facts import facts_of
from mmexp.runs.forgetting import Sequence, heat_map
from mmexp.runs.looks import Seen, overlay
from mmexp.runs.pictures import inline, write_gallery
from mmexp.runs.record import write_atomically
from mmexp.runs.sounds import audible
from mmexp.runs.space import Space
from mmexp.runs.table import Number, read_numbers, shown, times

_MOST_CLASSES = 30
_LEADING = ("encoder", "fusion", "adapter", "objective", "task", "data")


@dataclass
class Retrieved:
    """One answer: `score` is its similarity to the query, `right` whether it shows the same concept.

    A `sound` is samples (T,) and their rate in Hz.
    """

    picture: Image.Image | None
    text: str
    score: float
    right: bool
    sound: tuple[np.ndarray, int] | None = None


@dataclass
class Query:
    """One query and its k answers, the best first."""

    picture: Image.Image | None
    text: str
    retrieved: list[Retrieved]
    sound: tuple[np.ndarray, int] | None = None


@dataclass
class Answer:
    """What was said of one row, how sure that was (0 to 1), and what is `right`."""

    picture: Image.Image | None
    text: str
    said: str
    sure: float
    right: str


@dataclass
class Captioned:
    """What was written for one row, and the row's own `text`."""

    picture: Image.Image | None
    text: str
    written: str


@dataclass
class Confusion:
    """`counts (C, C)`: rows are the true classes, columns the predicted ones."""

    classes: list[str]
    counts: np.ndarray


@dataclass
class Version:
    """One sample as training reads it in one epoch; `picture` is None and `text` empty where it has none."""

    picture: Image.Image | None
    text: str


@dataclass
class Gallery:
    """The pictures of a report. `retrieval` goes from a block's title to its queries.

    `augmented` holds for each of some training samples how it is read, the first time as it is.
    """

    retrieval: dict[str, list[Query]]
    confusion: Confusion | None = None
    augmented: list[list[Version]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    captions: list[Captioned] = field(default_factory=list)
    sequence: Sequence | None = None
    looks: list[Seen] = field(default_factory=list)
    contributions: dict[str, float] = field(default_factory=dict)
    space: Space | None = None


def write_report(directory: Path, gallery: Gallery) -> Path:
    """Write `directory/report.html` from the run's files and `gallery`; a file that is not there is left out.

    What was retrieved is also written as data, to `gallery.json`.
    """
    text = _read(directory / "config.yaml")
    config = yaml.safe_load(text) or {}
    run = json.loads(_read(directory / "run.json") or "{}")
    metrics = json.loads(_read(directory / "metrics.json") or "{}")
    numbers = read_numbers(metrics)
    page = _template().render(
        name=str(config.get("name") or run.get("name") or directory.name),
        choices=_choices(config.get("choices") or run.get("choices") or {}),
        run=run,
        tiles=_tiles(numbers),
        splits=_by_split(numbers, metrics),
        curves=[draw(title, lines) for title, lines in history(directory / "metrics.csv").items()],
        gallery=gallery,
        sequence=heat_map(gallery.sequence) if gallery.sequence else None,
        confusion=_most_confused(gallery.confusion),
        parents=_parents(run, directory),
        facts=facts_of(run),
        config=text,
    )
    path = directory / "report.html"
    write_atomically(path, page)
    write_gallery(directory, gallery.retrieval)
    return path


@cache
def _template() -> jinja2.Template:
    here = Path(__file__).parent
    loader = jinja2.FileSystemLoader(here, encoding="utf-8")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"inline": inline, "overlay": overlay, "audible": audible}
    environment.globals |= {"shown": shown, "times": times}
    return environment.get_template("report.html.jinja")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _choices(choices: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the choices that make the method, in the order in which a person would tell them."""
    told = []
    for group in _LEADING:
        for name, value in choices.items():
            if name.split("/")[0] == group and value not in (None, [], {}):
                told.append((name.replace("/", " "), " + ".join(map(str, value)) if isinstance(value, list) else value))
    return told


def _parents(run: dict[str, Any], directory: Path) -> list[dict[str, Any]]:
    """Return the run's parents, each with a link to its page as seen from this one, None where it has none."""
    told = []
    for parent in run.get("parents") or []:
        page = Path(parent["path"]) / "report.html"
        link = Path(os.path.relpath(page, directory.resolve())).as_posix() if page.is_file() else None
        told.append({**parent, "link": link})
    return told


def _tiles(numbers: list[Number], most: int = 4) -> list[dict[str, Any]]:
    """Return the headline numbers of the most telling split: R@10 by direction with R@1 beside, then the rest."""
    of_split = [n for n in numbers if n.split == numbers[0].split and n.final is not None]
    by_name = {n.metric: n for n in of_split}
    heads = [n for n in of_split if n.metric.endswith("_r10")]
    answers = (
        *("average_accuracy", "forgetting", "backward_transfer", "forward_transfer"),
        *("accuracy", "matching_accuracy", "mean_average_precision", "f1_macro", "mean_absolute_error", "r2"),
        *("cider", "bleu4", "loss"),
    )
    heads += [by_name[name] for name in answers if name in by_name]
    return [
        {"number": n, "beside": by_name.get(re.sub("_r10$", "_r1", n.metric)) if "_r10" in n.metric else None}
        for n in heads[:most]
    ]


def _by_split(numbers: list[Number], metrics: dict[str, float]) -> list[dict[str, Any]]:
    """Return a table a split, with the number of candidates that its retrieval chose from."""
    splits: dict[str, list[Number]] = defaultdict(list)
    for number in numbers:
        splits[number.split].append(number)
    return [
        {"name": name or "run", "numbers": rows, "candidates": metrics.get(f"{name}/candidates")}
        for name, rows in splits.items()
    ]


def _most_confused(confusion: Confusion | None) -> dict[str, Any] | None:
    """Return the cells to draw; of many classes those with the most mistakes, for a page has no room for all."""
    if confusion is None or not len(confusion.classes):
        return None
    counts = np.asarray(confusion.counts)
    wrong = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    kept = np.sort(np.argsort(-wrong, kind="stable")[:_MOST_CLASSES])
    rows = counts.sum(1)
    cells = [
        {"row": i, "column": j, "count": int(counts[a, b]), "of": int(rows[a]), "share": float(counts[a, b] / rows[a])}
        for i, a in enumerate(kept)
        for j, b in enumerate(kept)
        if counts[a, b] > 0
    ]
    classes = [str(confusion.classes[i]) for i in kept]
    return {"classes": classes, "cells": cells, "all": len(counts), "accuracy": counts.trace() / max(counts.sum(), 1)}
