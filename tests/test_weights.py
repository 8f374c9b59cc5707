"""What is told of weights that were loaded, fit nowhere, or were not there."""

import pytest
import torch
from torch import nn

from mmexp.errors import RequestError
from mmexp.weights import load_parts


def whole(**objectives: nn.Module) -> nn.ModuleDict:
    encoders = nn.ModuleDict({"image": nn.Linear(3, 2)})
    model = nn.ModuleDict({"encoders": encoders, "fusion": nn.Linear(2, 2, bias=False)})
    return nn.ModuleDict({"model": model, "objectives": nn.ModuleDict(objectives)})


def test_extra_and_missing_parts_are_told_with_their_sizes():
    own = whole(contrastive=nn.Linear(2, 5), classify=nn.Linear(2, 4))
    source = whole(contrastive=nn.Linear(2, 7), distill=nn.Linear(2, 6)).state_dict()
    source |= {"model.encoders.text.weight": torch.zeros(10, 2)}
    loaded = load_parts(own, source, "runs/first")
    assert loaded.parts == {"encoders.image": 8, "fusion": 4}
    assert loaded.fresh == {
        "objectives.contrastive": "objectives.contrastive.weight is (7, 2) there and (5, 2) here",
        "objectives.classify": "not among the weights",
    }
    assert loaded.left == {"objectives.contrastive": 21, "objectives.distill": 18, "encoders.text": 20}
    torch.testing.assert_close(own.state_dict()["model.encoders.image.weight"], source["model.encoders.image.weight"])
    lines = loaded.told().splitlines()
    assert lines[0] == "weights from runs/first: 12 loaded"
    assert [line.split()[:2] for line in lines[1:]] == [
        ["loaded", "encoders.image"],
        ["loaded", "fusion"],
        ["fresh", "objectives.contrastive"],
        ["fresh", "objectives.classify"],
        ["left", "objectives.contrastive"],
        ["left", "objectives.distill"],
        ["left", "encoders.text"],
    ]


def test_weights_that_fit_no_encoder_are_refused():
    with pytest.raises(RequestError, match=r"fit no encoder of this model: x: fusion; encoders.image starts fresh"):
        load_parts(whole(), {"model.fusion.weight": torch.zeros(2, 2)}, "x")
