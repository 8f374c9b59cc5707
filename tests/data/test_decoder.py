"""A picture is the same pixels wherever it comes from: a file, bytes, a request to the server, the index."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from mmexp.data.pictures import read_picture
from mmexp.data.table import table
from mmexp.errors import RequestError


def encoded(pixels: np.ndarray, form: str, mode: str | None = None) -> bytes:
    memory = io.BytesIO()
    Image.fromarray(pixels, mode).save(memory, form)
    return memory.getvalue()


def transparent_corners() -> bytes:
    """A disk on transparent corners, whose hidden colour is black: cut-outs of web pages are such."""
    rows, columns = np.mgrid[:32, :32] - 15.5
    inside = rows**2 + columns**2 < 200
    return encoded(np.dstack([inside * 90, inside * 160, inside * 220, inside * 255]).astype(np.uint8), "PNG")


def test_served_indexed_and_evaluated_pictures_are_the_same_pixels(tmp_path, monkeypatch):
    answers = pytest.importorskip("mmexp.serving.answers")
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.png").write_bytes(transparent_corners())
    (tmp_path / "a.txt").write_text("a disk")
    samples = table(str(tmp_path), {"image": "image", "text": "caption"}, val_fraction=0).splits["train"]
    evaluated = np.asarray(samples.read(0, "image"))
    assert evaluated[0, 0].tolist() == [255, 255, 255]
    served = answers.picture(base64.b64encode(transparent_corners()).decode())
    assert np.array_equal(np.asarray(served), evaluated)
    embedder = answers.Embedder.__new__(answers.Embedder)
    seen = []
    monkeypatch.setattr(answers.Embedder, "__call__", lambda self, kind, values: seen.extend(values))
    assert embedder.files([tmp_path / "a.png", tmp_path / "a.txt"])[1] == [True, False]
    assert np.array_equal(np.asarray(seen[0]), evaluated)


def test_what_is_no_picture_is_refused_by_the_server():
    answers = pytest.importorskip("mmexp.serving.answers")
    for content in (
        "no base64!",
        base64.b64encode(b"no picture").decode(),
        base64.b64encode(transparent_corners()[:90]).decode(),
    ):
        with pytest.raises(answers.Wrong):
            answers.picture(content)


RAMP = np.linspace(0, 1, 16).reshape(4, 4)
DEEP = {
    "floats from 0 to 1": RAMP.astype(np.float32),
    "floats from 0 to 255": (RAMP * 255).astype(np.float32),
    "int32 of 8 bits": (RAMP * 255).round().astype(np.int32),
    "int32 of 16 bits": (RAMP * 65_535).round().astype(np.int32),
    "int32 of 31 bits": (RAMP * (2**31 - 1)).astype(np.int32),
    "uint16": (RAMP * 65_535).round().astype(np.uint16),
}


@pytest.mark.parametrize("kind", DEEP)
def test_deep_pictures_are_scaled_by_their_range(kind):
    found = np.asarray(read_picture(encoded(DEEP[kind], "TIFF")))
    assert np.abs(found[..., 0].astype(float) - RAMP * 255).max() <= 0.51 and (found[..., :1] == found).all()


def test_a_dark_16_bit_picture_stays_dark():
    dark = (RAMP * 200).astype(np.uint16)
    for form in ("TIFF", "PNG"):
        assert np.asarray(read_picture(encoded(dark, form))).max() <= 1


@pytest.mark.parametrize("pixels", [RAMP * 4 - 2, RAMP * 1e12, np.where(RAMP > 0.5, np.nan, RAMP)])
def test_numbers_of_no_range_are_refused_with_the_row(pixels, tmp_path, monkeypatch):
    monkeypatch.setenv("MMEXP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.tif").write_bytes(encoded(pixels.astype(np.float32), "TIFF"))
    (tmp_path / "t.csv").write_text("image,caption\na.tif,one\n")
    with pytest.raises(
        RequestError, match=r"line 2: the picture cannot be decoded: its numbers are from .* scale them to 0"
    ):
        table(str(tmp_path / "t.csv"), {"image": "image", "text": "caption"})
