"""Sounds and videos in the report."""

import base64
import io
from types import SimpleNamespace

import numpy as np
import soundfile
import torch
from PIL import Image

from mmexp.runs.gallery import film_strip, make_gallery
from mmexp.runs.report import Gallery, Query, Retrieved, write_report
from mmexp.runs.sounds import audible
from mmexp.tasks.evaluation import Gathered
from mmexp.types import DataSource

TONE = np.sin(np.arange(22050 * 6) / 10).astype(np.float32), 22050


def test_a_sound_is_heard_for_some_seconds():
    kind, _, content = audible(TONE).partition(",")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(content)))
    assert kind == "data:audio/ogg;base64" and rate == 16000 and len(content) < 20_000
    assert abs(len(samples) - 4 * rate) < 10
    tone = np.abs(np.fft.rfft(samples[:rate])).argmax()
    assert abs(tone - 22050 / (20 * np.pi)) < 2


def test_four_frames_are_one_picture():
    frames = np.stack([np.full((4, 6, 3), level, np.uint8) for level in range(8)])
    strip = film_strip(frames)
    assert strip.size == (12, 8)
    assert [strip.getpixel(place)[0] for place in ((0, 0), (11, 0), (0, 7), (11, 7))] == [0, 2, 5, 7]
    assert np.array_equal(film_strip([Image.fromarray(frame) for frame in frames]), strip)


class Heard:
    concepts = labels = np.arange(6)

    def __len__(self):
        return 6

    def read(self, row, modality, rng=None):
        values = {"text": f"say {row}", "title": f"name {row}", "image": Image.new("RGB", (4, 4), (row, 0, 0))}
        more = {"audio": (np.full(800, row / 10, np.float32), 8000), "video": np.full((8, 4, 4, 3), row, np.uint8)}
        return (values | more)[modality]

    def where(self, row):
        return f"row {row}"


def gallery_of(*names: str):
    gathered, unit = Gathered(), torch.eye(6)
    rows = {"index": torch.arange(6), "concept": torch.arange(6), "label": torch.arange(6)}
    gathered.add({}, rows | {f"vector/{name}": unit for name in names}, 6)
    kinds = {name: SimpleNamespace(modality="text" if name == "title" else name) for name in names}
    task = SimpleNamespace(gathered={"test": gathered}, model=SimpleNamespace(encoders=kinds))
    source = DataSource({"train": Heard(), "test": Heard()}, names)
    return make_gallery(task, source, SimpleNamespace(variation=None)).retrieval


def test_all_directions_with_what_is_heard_and_seen():
    found = gallery_of("image", "text", "audio", "video", "title")
    assert len(found) == 20 and next(iter(found)).startswith("text to ")
    (query, *_), answer = found["audio to video, test"], found["text to audio, test"][1].retrieved[0]
    assert query.sound is not None and query.text == "say 0" and query.retrieved[0].picture.size == (8, 8)
    assert (
        answer.right and answer.picture is None and answer.sound[0][0] == np.float32(answer.text[4:]) / np.float32(10)
    )
    title = found["image to title, test"][1]
    assert title.retrieved[0].text.startswith("name") and title.text.startswith("say")


def test_without_texts_a_row_is_told_by_its_place():
    found = gallery_of("image", "audio")
    assert list(found) == ["audio to image, test", "image to audio, test"]
    assert found["audio to image, test"][0].text == "row 0"


def test_a_page_plays_them_and_takes_no_text_for_markup(tmp_path):
    text = '"><script>alert(1)</script>'
    answers = [Retrieved(None, text, 0.5, True, sound=TONE), Retrieved(None, "plain", 0.1, False)]
    page = write_report(
        tmp_path, Gallery({"text to audio, test": [Query(None, text, answers, sound=TONE)]})
    ).read_text()
    assert page.count("<audio controls") == 2 and page.count('src="data:audio/ogg;base64,') == 2
    assert "<script>alert" not in page
