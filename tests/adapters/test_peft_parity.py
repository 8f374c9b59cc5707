"""LoRA, rsLoRA and DoRA are peft's own layers: the same start, and the same weights after five steps."""

import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from mmexp.adapters.dora import DoRA
from mmexp.adapters.lora import Lora
from mmexp.adapters.rslora import RsLora

KINDS = {"lora": (Lora, {}), "rslora": (RsLora, {"use_rslora": True}), "dora": (DoRA, {"use_dora": True})}


class Tower(nn.Module):
    """A convolution and two linear layers, over pictures (B, 3, 8, 8)."""

    modality = "picture"  # none that an adapter tries on a blank input

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.up, self.down = nn.Linear(6, 20), nn.Linear(20, 5)

    def forward(self, pictures):
        return self.down(torch.tanh(self.up(torch.tanh(self.conv(pictures)).flatten(2).transpose(1, 2))))


def trained(tower: nn.Module, steps: int = 5, lr: float = 1e-2) -> torch.Tensor:
    """Take AdamW's steps towards fixed targets; return the outputs on other pictures (4, 16, 5)."""
    generator = torch.Generator().manual_seed(3)
    pictures, targets = torch.randn(4, 3, 8, 8, generator=generator), torch.randn(4, 16, 5, generator=generator)
    optimizer = torch.optim.AdamW([p for p in tower.parameters() if p.requires_grad], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(tower(pictures), targets).backward()
        optimizer.step()
    return tower(torch.randn(4, 3, 8, 8, generator=generator))


def both(kind: str, targets: list[str], rank: int = 4) -> tuple[nn.Module, nn.Module]:
    """Return the tower with our adapter and with peft's by its default configuration, from the same random numbers."""
    torch.manual_seed(0)
    bare = Tower()
    make, variant = KINDS[kind]
    ours, theirs = copy.deepcopy(bare), copy.deepcopy(bare).requires_grad_(False)
    torch.manual_seed(1)
    make(rank=rank, alpha=8, targets="|".join(targets)).apply("encoders.image", ours)
    torch.manual_seed(1)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=8, target_modules=targets, **variant), theirs)
    return ours, theirs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("targets", [["up", "down"], ["conv"]], ids=["linear", "convolution"])
def test_five_steps_are_those_of_peft(kind, targets):
    ours, theirs = both(kind, targets)
    start = {name: p.detach().clone() for name, p in theirs.named_parameters() if p.requires_grad}
    assert start.keys() == {name for name, p in ours.named_parameters() if p.requires_grad}
    assert all(torch.equal(dict(ours.named_parameters())[name], p) for name, p in start.items())
    torch.testing.assert_close(trained(ours), trained(theirs), rtol=1e-4, atol=1e-5)
    learned = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter, learned[name], rtol=1e-3, atol=1e-5)
    assert all(not torch.equal(learned[name], p) for name, p in start.items())


def change(kind: str, rank: int) -> float:
    """Return by how much one step of Adam at a rate of 1e-3 changes a linear layer's outputs on other rows, root mean square."""
    torch.manual_seed(0)
    layer, rows, others = nn.Sequential(nn.Linear(128, 128)), torch.randn(64, 128), torch.randn(64, 128)
    before = layer(others).detach()
    KINDS[kind][0](rank=rank, alpha=8, targets="0").apply("encoders.image", layer)
    optimizer = torch.optim.Adam([p for p in layer.parameters() if p.requires_grad], lr=1e-3)
    layer(rows).mul(torch.randn(64, 128)).sum().backward()
    optimizer.step()
    return (layer(others) - before).square().mean().sqrt().item()


def test_a_step_of_rslora_is_as_large_at_any_rank():
    assert change("rslora", 64) / change("rslora", 1) == pytest.approx(1, abs=0.5)
    # LoRA's shrinks with the root of the rank, to an eighth.
    assert change("lora", 64) / change("lora", 1) < 0.25
