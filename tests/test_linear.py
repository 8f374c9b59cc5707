"""Linear layers that add their bias inside the product give what torch's do."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmexp import linear
from mmexp.linear import Linear, hasten
from mmexp.processor import has_bf16


@pytest.fixture
def convolutions(monkeypatch):
    """What was computed as a convolution."""
    seen, conv2d = [], F.conv2d

    def counted(pixels, weight, bias):
        seen.append(tuple(weight.shape[:2]))
        return conv2d(pixels, weight, bias)

    monkeypatch.setattr(F, "conv2d", counted)
    return seen


def run(way, tokens, layer, dtype):
    """Return what a way gives, and the gradients of all that went in."""
    tokens = tokens.detach().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        said = way(tokens, layer.weight, layer.bias)
    (said.float() * torch.linspace(-1, 1, said.shape[-1])).sum().backward()
    return said, tokens.grad, layer.weight.grad.clone(), layer.bias.grad.clone()


@pytest.fixture
def at_any_size(monkeypatch):
    """Few rows and small weights are enough."""
    monkeypatch.setattr(linear, "_ROWS", 35)
    monkeypatch.setattr(linear, "_WEIGHTS", 24 * 16)
    monkeypatch.setattr(linear, "has_bf16", lambda: True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_native_bf16_there_are_no_convolutions(dtype, convolutions, at_any_size, monkeypatch):
    monkeypatch.setattr(linear, "has_bf16", lambda: False)
    run(linear.linear, torch.randn(35, 16), nn.Linear(16, 24), dtype)
    assert convolutions == []


def test_native_bf16_is_told_by_the_instruction_set_in_use(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    for capability, native in {"AVX2": False, "AVX512": True, "DEFAULT": False}.items():
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda capability=capability: capability)
        assert has_bf16.__wrapped__() is native


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(7, 5, 16), (35, 16)])
def test_values_and_gradients_are_those_of_torch(shape, dtype, convolutions, at_any_size):
    torch.manual_seed(0)
    tokens, layer = torch.randn(shape), nn.Linear(16, 24)
    theirs = run(F.linear, tokens, layer, dtype)
    ours = run(linear.linear, tokens, layer, dtype)
    assert convolutions == [(24, 16)]
    assert ours[0].dtype == dtype and ours[0].is_contiguous()
    near = 0.02 if dtype == torch.bfloat16 else 1e-5
    for own, their in zip(ours, theirs, strict=True):
        assert own.shape == their.shape
        torch.testing.assert_close(own.float(), their.float(), rtol=near, atol=near)


@pytest.mark.parametrize(
    ("tokens", "outputs", "bias"),
    [
        (torch.zeros(34, 16), 24, True),
        (torch.zeros(35, 16), 23, True),
        (torch.zeros(35, 16), 24, False),
        (torch.zeros(35, 16, dtype=torch.float64), 24, True),
        (torch.zeros(35, 16, device="meta"), 24, True),
    ],
)
def test_small_ones_and_others_are_torchs_own(tokens, outputs, bias, convolutions, at_any_size):
    layer = nn.Linear(16, outputs, bias, device=tokens.device, dtype=tokens.dtype)
    assert linear.linear(tokens, layer.weight, layer.bias).shape == (len(tokens), outputs)
    assert convolutions == []


def test_torchs_layers_become_ours_and_others_stay():
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(2, 3), Own(3, 2), nn.LayerNorm(2))
    kept = dict(model.state_dict())
    hasten(model)
    assert [type(part) for part in model] == [Linear, Own, nn.LayerNorm]
    assert list(model.state_dict()) == list(kept)
