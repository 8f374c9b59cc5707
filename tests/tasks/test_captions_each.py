"""Several captions of a picture, read from tables: in a list cell or a row each they give the same numbers."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from stand_ins import TinyImage, TinyText

from mmexp.data.table import table
from mmexp.fusion.none import NoFusion
from mmexp.judging.corruptions import Spoilt, typos
from mmexp.judging.ranking import by_group, precision
from mmexp.judging.said import Judged, gather
from mmexp.model import Model
from mmexp.objectives.contrastive import Contrastive

COUNT, EACH = 20, 3
COLUMNS = {"image": "image", "text": "caption", "label": "label", "concept": None}


@pytest.fixture
def judged():
    torch.manual_seed(0)
    model = Model({"image": TinyImage(), "text": TinyText()}, NoFusion({}))
    return Judged("", model, {"contrastive": Contrastive(model.shape(), embed_dim=8)})


def samples(folder, listed: bool):
    draws = np.random.default_rng(0)
    letters = draws.integers(97, 123, (COUNT, EACH, 5))
    lines = []
    for number in range(COUNT):
        Image.fromarray(draws.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        captions = ["".join(map(chr, one)) for one in letters[number]]
        for caption in [captions] if listed else captions:
            lines.append({"image": f"{number}.png", "caption": caption, "label": f"class {number % 2}"})
    file = folder / f"{'listed' if listed else 'rows'}.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    return table(str(file), COLUMNS, val=str(file)).splits["train"]


def test_a_list_cell_is_measured_as_a_row_for_each_caption(judged, tmp_path):
    listed, rows = samples(tmp_path, listed=True), samples(tmp_path, listed=False)
    assert (len(listed), len(rows)) == (COUNT, COUNT * EACH)
    found, expected = (gather(judged, one).metrics() for one in (listed, rows))
    ways = {name for name in found if "_to_" in name} | {"candidates", "mean_reciprocal_rank"}
    assert {n: found[n] for n in ways} == pytest.approx({n: expected[n] for n in ways}, abs=1e-6)
    assert (found["candidates"], found["image_to_text_candidates"]) == (COUNT, COUNT * EACH)
    assert 0 < found["text_to_image_r10"] < 1
    for study in (lambda one: precision(judged, one), lambda one: by_group(judged, one, ["class 0", "class 1"])):
        told = study(listed)
        assert told and told == pytest.approx(study(rows), abs=1e-6)


def test_the_standard_protocol_by_hand(judged, tmp_path):
    rows = samples(tmp_path, listed=False)
    whole = gather(judged, rows)
    vectors, found = whole.below("vector/"), whole.metrics()
    pictures, texts = vectors["image"][::EACH].double(), vectors["text"].double()
    score, own = texts @ pictures.T, torch.arange(COUNT).repeat_interleave(EACH)
    rank = 1 + (score > score[torch.arange(COUNT * EACH), own][:, None]).sum(1)
    back = score.T.masked_fill(own[None] != torch.arange(COUNT)[:, None], -torch.inf).amax(1, keepdim=True)
    back = 1 + (back < score.T).sum(1)
    for k in (1, 5, 10):
        assert found[f"text_to_image_r{k}"] == pytest.approx((rank <= k).double().mean().item())
        assert found[f"image_to_text_r{k}"] == pytest.approx((back <= k).double().mean().item())
    assert found["text_to_image_median_rank"] == np.median(rank)


def test_outputs_that_are_not_numbers_are_refused(judged, tmp_path):
    with torch.no_grad():
        judged.heads["contrastive"].heads["text"].weight[0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="the vectors of text are NaN, first in row 0 of an evaluation set"):
        gather(judged, samples(tmp_path, listed=False))


def test_every_caption_of_a_list_is_spoilt(tmp_path):
    listed = samples(tmp_path, listed=True)
    spoilt = Spoilt(listed, "text", "typos", typos, 5)
    changed = [
        one != other for row in range(COUNT) for one, other in zip(spoilt.texts(row), listed.texts(row), strict=True)
    ]
    assert sum(changed) > len(changed) / 2 and spoilt.text_items(3) == listed.text_items(3)
