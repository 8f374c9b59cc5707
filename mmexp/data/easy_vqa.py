"""easy-VQA (Victor Zhou 2019): questions on pictures of one coloured shape, as the package `easy-vqa` brings them."""

import json
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from mmexp.data.concepts import hold_out
from mmexp.data.items import stored_items, text_item
from mmexp.data.pictures import read_picture
from mmexp.errors import RequestError
from mmexp.types import DataSource

VAL_FRACTION = 0.1


class Questions:
    """One question a row; the label is its answer. `pictures (N,)` numbers the picture within `folder`."""

    def __init__(
        self, folder: Path, questions: list[str], pictures: np.ndarray, labels: np.ndarray, concepts: np.ndarray
    ):
        self.folder, self.questions, self.pictures = folder, questions, pictures
        self.labels, self.concepts = labels, concepts
        self.items = {"text": np.array([text_item(question) for question in questions], dtype=np.int64)}

    def __len__(self) -> int:
        return len(self.questions)

    def read(self, row: int, modality: str, rng: np.random.Generator | None = None) -> Any:
        """Return the picture, 64 x 64, or the question."""
        return read_picture(self.file(row)) if modality == "image" else self.questions[row]

    def chooses_texts(self, modality: str) -> bool:
        """Return False: a row has one question."""
        return False

    def where(self, row: int) -> str:
        """Return the picture's file and the question."""
        return f"{self.file(row)}, '{self.questions[row]}'"

    def chosen(self, rows: np.ndarray) -> "Questions":
        """Return some of these rows."""
        texts = [self.questions[row] for row in rows]
        part = Questions(self.folder, texts, self.pictures[rows], self.labels[rows], self.concepts[rows])
        part.items = {name: own[rows] for name, own in self.items.items()}
        return part

    def file(self, row: int) -> Path:
        """Return the picture's file."""
        return self.folder / "images" / f"{self.pictures[row]}.png"


def easy_vqa() -> DataSource:
    """Return the splits `train`, `val` (a tenth of the training pictures, with all their questions) and the official `test`.

    The 13 classes are the answers. No question is asked twice of a picture, so every row is a concept of its own. Raises
    RequestError where the package is not installed.
    """
    try:
        folder = Path(str(files("easy_vqa"))) / "data"
    except ModuleNotFoundError as error:
        raise RequestError("data=easy_vqa needs the package easy-vqa. pip install 'mmexp[vqa]'") from error
    answers = (folder / "answers.txt").read_text().split()
    every = _read(folder / "train", answers, 0)
    test = _read(folder / "test", answers, len(every))
    _number_pictures(every, test)
    held = hold_out(every.pictures, VAL_FRACTION)
    splits = {
        "train": every.chosen(np.flatnonzero(~held)),
        "val": every.chosen(np.flatnonzero(held)),
        "test": test,
    }
    return DataSource(splits, ("image", "text"), answers, _fingerprint(folder), concepts_stated=False)


def _read(folder: Path, answers: list[str], first_concept: int) -> Questions:
    questions, given, pictures = zip(*json.loads((folder / "questions.json").read_text()), strict=True)
    labels = np.array([answers.index(answer) for answer in given])
    return Questions(folder, list(questions), np.array(pictures), labels, first_concept + np.arange(len(labels)))


def _number_pictures(*parts: Questions) -> None:
    """Number the pictures of all parts by content, each file looked at once."""
    files = list(dict.fromkeys(own.file(row) for own in parts for row in range(len(own))))
    number = dict(zip(files, stored_items(files).tolist(), strict=True))
    for own in parts:
        own.items["image"] = np.array([number[own.file(row)] for row in range(len(own))], dtype=np.int64)


def _fingerprint(folder: Path) -> str:
    digest = sha256()
    for part in ("train", "test"):
        digest.update((folder / part / "questions.json").read_bytes())
    return digest.hexdigest()[:16]
