"""`data.by_length`: the rows of a batch have texts of like length, counted where a row has one."""

import numpy as np
import pytest
from stand_ins import TinyImage, TinyText

from mmexp.data.loaders import train_loader
from mmexp.data.loading import Loading
from mmexp.data.variation import Variation
from mmexp.errors import RequestError


class Rows:
    """Texts of 1 to 39 words; the last row has none."""

    concepts = labels = np.arange(40)
    present = {"text": np.arange(40) < 39}  # noqa: RUF012

    def __len__(self):
        return 40

    def read(self, row, modality, rng=None):
        assert row < 39
        return "word " * (row + 1)


def test_rows_of_like_length_are_together():
    encoders = {"text": TinyText(), "image": TinyImage()}
    loader = train_loader(Rows(), encoders, Loading(4, by_length=True), Variation(0))
    batches = [sorted(row for row, _ in batch) for batch in loader.batch_sampler]
    assert sorted(batches)[0] == [0, 1, 2, 39]
    assert sorted(batches)[1:] == [list(range(start, start + 4)) for start in range(3, 39, 4)]


def test_without_texts_it_is_refused():
    with pytest.raises(RequestError, match="no encoder reads texts"):
        train_loader(Rows(), {"image": TinyImage()}, Loading(4, by_length=True), Variation(0))
