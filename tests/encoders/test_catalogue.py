"""Every choice of an encoder: its sizes are those of the docs, LoRA finds layers, all that is trained learns."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mmexp.build.making import make
from mmexp.errors import RequestError

ROOT = Path(__file__).parents[2]
SCRIPT = importlib.util.spec_from_file_location("measure_encoders", ROOT / "scripts/measure_encoders.py")
measure: Any = importlib.util.module_from_spec(SCRIPT)
SCRIPT.loader.exec_module(measure)
TABLE = re.findall(r"^\| (`encoder/(\w+)=(\w+)`.*)$", (ROOT / "docs/encoders.md").read_text(), re.MULTILINE)
# Small enough to take a step with: the rest differ in size alone, and each family of layers is among these.
SMALL = ("cnn", "coatnet", "convnext", "efficientnet", "mobilenet", "resnet", "swin", "vit")


def test_the_table_has_a_row_for_every_choice():
    rows = {f"{group}/{name}" for _, group, name in TABLE}
    assert rows == {f"{file.parent.name}/{file.stem}" for file in (ROOT / "conf/encoder").glob("*/*.yaml")}


@pytest.mark.parametrize("choice", list(measure.choices()))
def test_the_table_says_what_is_measured(choice):
    try:
        weights, tokens, width = measure.measured(choice)
    except RequestError as error:
        if not re.search("hub cannot be reached|pip install", str(error)):
            raise
        pytest.skip(str(error))
    row = next(line for line, group, name in TABLE if f"{group}/{name}" == choice)
    shown = re.search(r"\| ([\d.]+) M \| (words|\d+) × (\d+) \|", row)
    assert shown, row
    assert float(shown[1]) == round(weights / 1e6, 1) and int(shown[3]) == width
    assert shown[2] == ("words" if choice.startswith("text/") else str(tokens))


@pytest.mark.parametrize("name", SMALL)
def test_a_family_learns_from_scratch(name):
    torch.manual_seed(0)
    encoder = make(measure.settings(f"image/{name}"))
    side = encoder.image_size
    assert encoder.grid in ((4, 4), (8, 8)), "enough places for objectives that hide some"
    encoded = encoder({"pixels": torch.rand(3, 3, side, side)})
    assert encoded.tokens.shape == (3, encoder.grid[0] * encoder.grid[1], encoder.dim)
    (encoded.tokens.square().mean() + encoded.pooled.square().mean()).backward()
    assert not [n for n, p in encoder.named_parameters() if p.grad is None]
    layers = [n for n, m in encoder.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert sum(bool(re.fullmatch(encoder.adapter_targets, n)) for n in layers) >= 6


@pytest.mark.parametrize("group", ["image", "text", "audio", "video"])
def test_every_choice_may_come_from_a_run(group):
    for file in (ROOT / "conf/encoder" / group).glob("*.yaml"):
        assert re.search(r"^weights: ", file.read_text(), re.MULTILINE), file.name
