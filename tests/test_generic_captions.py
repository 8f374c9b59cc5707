"""One caption that many pictures share teaches and measures what it can, and no more."""

import json

import numpy as np
import pytest
from PIL import Image

WORDS = ("red", "green", "blue", "dark")
RUN = (
    "data=table",
    "data.columns.label=null",
    "encoder/image=cnn",
    "encoder.text.depth=1",
    "objective=contrastive",
    "fusion=none",
)
RUN += (
    "data.num_workers=0",
    "hardware.threads=1",
    "data.batch_size=16",
    "budget.steps=30",
    "hydra.run.dir=run",
    "schedule.warmup_steps=0",
)


@pytest.fixture
def pictures(tmp_path):
    """Write 64 pictures in colours that their captions name, and return the names and captions."""
    draws = np.random.default_rng(0)
    found = []
    for number in range(64):
        colour = np.array([(220, 30, 30), (30, 220, 30), (30, 30, 220), (20, 20, 20)][number % 4])
        pixels = colour + draws.integers(-20, 20, (32, 32, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{number}.png")
        found.append((f"{number}.png", f"{WORDS[number % 4]} {number}"))
    return found


def write(folder, rows) -> str:
    (folder / "t.csv").write_text("image,caption\n" + "".join(f"{image},{caption}\n" for image, caption in rows))
    return str(folder / "t.csv")


def test_own_captions_beside_a_generic_one(mmexp, tmp_path, pictures):
    file = write(tmp_path, [(image, one) for image, own in pictures for one in (own, "a picture")])
    status, _, err = mmexp("train", f"data.train={file}", f"data.val={file}", f"data.test={file}", *RUN)
    assert status == 0, err
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    # Stuck, it would be the logarithm of the batch size: 2.77.
    assert found["test/loss"] < 2.6
    assert found["test/text_to_image_r1"] < 0.5 and found["test/image_to_text_r1_chance"] == pytest.approx(2 / 65)
    assert (found["test/candidates"], found["test/image_to_text_candidates"]) == (64, 65)
