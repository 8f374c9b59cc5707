"""What the report shows of an evaluation."""

from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from mmexp.runs.gallery import RIGHT, WRONG, make_gallery
from mmexp.tasks.evaluation import Gathered
from mmexp.types import DataSource


class Numbered:
    """Rows whose text is their number and whose label is its parity; the last one has none."""

    concepts, labels = np.arange(30), np.array([*(i % 2 for i in range(29)), -1])

    def __len__(self):
        return 30

    def read(self, row, modality, rng=None):
        return str(row) if modality == "text" else Image.new("RGB", (4, 4))


def test_some_wrong_answers_then_some_right_ones():
    gathered, label = Gathered(), torch.from_numpy(Numbered.labels)
    said = label.clone()
    said[[2, 5, 29]] = torch.tensor([1, 0, 1])
    logits = 2 * torch.nn.functional.one_hot(said, 2).float()
    rows = {"index": torch.arange(30), "concept": torch.arange(30), "label": label, "logits": logits}
    gathered.add({}, rows, 30)
    source = DataSource({"train": Numbered(), "test": Numbered()}, ("image", "text"), ("even", "odd"))
    answers = make_gallery(
        SimpleNamespace(gathered={"test": gathered}), source, SimpleNamespace(variation=None)
    ).answers
    assert [(a.text, a.said, a.right) for a in answers[:2]] == [("2", "odd", "even"), ("5", "even", "odd")]
    assert len(answers) == 2 + RIGHT and WRONG > 2
    assert all(a.said == a.right and a.text != "29" for a in answers[2:])
    assert abs(answers[0].sure - 1 / (1 + np.exp(-2))) < 1e-6
