"""Heads in exported folders: with a bias, none at all, and several layers."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmexp.errors import RequestError
from mmexp.exporting.heads import linear_heads, projected


def subject_of(**space: Any) -> Any:
    encoder = SimpleNamespace(encoder=SimpleNamespace(dim=6))
    return SimpleNamespace(space=SimpleNamespace(**space), towers={"image": encoder, "text": encoder})


def test_a_bias_and_no_projection_are_held():
    heads = nn.ModuleDict({"image": nn.Identity(), "text": nn.Linear(6, 6)})
    stored = linear_heads(subject_of(heads=heads, log_scale=torch.tensor(2.0)), "hf")
    assert set(stored) == {"image.weight", "text.weight", "text.bias", "log_scale"}
    pooled = torch.randn(3, 6)
    for name, head in heads.items():
        torch.testing.assert_close(projected(pooled, stored, name), F.normalize(head(pooled), dim=-1))
    assert "log_scale" not in linear_heads(subject_of(heads=heads), "hf")


def test_several_layers_are_refused():
    heads = nn.ModuleDict({"image": nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 6))})
    with pytest.raises(RequestError, match="the head of image has several layers"):
        linear_heads(subject_of(heads=heads), "hf")
