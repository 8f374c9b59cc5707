"""What was retrieved, as data."""

import base64
import io
import json
from pathlib import Path

from PIL import Image

from mmexp.runs.pictures import write_gallery
from mmexp.runs.report import Query, Retrieved


def noise(seed: int) -> Image.Image:
    return Image.effect_noise((200, 100), 20 + seed).convert("RGB")


def test_pictures_are_small_and_stand_once(tmp_path: Path):
    same = noise(0)
    answers = [
        Retrieved(same, "a", 0.51239, True),
        Retrieved(noise(1), "b", 0.4, False),
        Retrieved(None, "c", 0.3, False),
    ]
    write_gallery(tmp_path, {"text to image, test": [Query(None, "what", answers), Query(same, "", [])]})
    written = json.loads((tmp_path / "gallery.json").read_text())
    first, second = written["retrieval"]["text to image, test"]
    assert first["retrieved"][0] == {"text": "a", "picture": second["picture"], "score": 0.5124, "right": True}
    assert first["picture"] is None and first["retrieved"][2]["picture"] is None
    assert len(written["pictures"]) == 2
    data = base64.b64decode(written["pictures"][second["picture"]].partition(",")[2])
    assert Image.open(io.BytesIO(data)).size == (64, 32)


def test_a_run_that_retrieved_nothing_leaves_no_gallery(tmp_path: Path):
    write_gallery(tmp_path, {})
    assert list(tmp_path.iterdir()) == []
