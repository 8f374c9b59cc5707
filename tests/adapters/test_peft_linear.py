"""Peft's LoRA with fewer passes says what peft's says."""

import copy

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora.layer import Linear
from torch import nn

from mmexp.adapters.peft_linear import LoraLinear, hasten


def layers(**options: object) -> tuple[nn.Module, nn.Module]:
    """Return peft's layer and ours of the same weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 40))
    told = LoraConfig(r=4, lora_alpha=12, target_modules=["0"], init_lora_weights=False, **options)
    theirs = inject_adapter_in_model(told, model)
    ours = copy.deepcopy(theirs)
    hasten(ours[0])
    assert type(theirs[0]) is Linear and type(ours[0]) is LoraLinear
    return theirs, ours


@pytest.mark.parametrize("how", [{}, {"use_dora": True}, {"lora_bias": True}, {"lora_dropout": 0.5}, {"bias": "all"}])
@pytest.mark.parametrize("shape", [(5, 24), (2, 3, 24)])
def test_outputs_and_gradients_are_pefts(how, shape):
    inputs, found = torch.randn(shape), []
    for model in layers(**how):
        fresh = inputs.clone().requires_grad_()
        torch.manual_seed(1)
        said = model(fresh)
        said.square().sum().backward()
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((said, fresh.grad, grads))
    (said, grad, grads), (own, own_grad, own_grads) = found
    torch.testing.assert_close(own, said, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(own_grad, grad, rtol=1e-4, atol=1e-4)
    assert own_grads.keys() == grads.keys() and len(grads) >= 2
    for name, one in grads.items():
        torch.testing.assert_close(own_grads[name], one, rtol=1e-4, atol=1e-3)


def test_of_inputs_that_nothing_is_learned_for_the_update_alone_is():
    inputs, found = torch.randn(5, 24), []
    for model in layers():
        for _ in range(2):  # as a balance goes back twice
            grads = torch.autograd.grad(
                model(inputs).square().sum(), [p for p in model.parameters() if p.requires_grad], retain_graph=True
            )
        found.append(grads)
    for own, theirs in zip(*found, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-3)


def test_in_bf16_it_is_no_further_from_fp32_than_pefts():
    theirs, ours = layers()
    inputs = torch.randn(200, 24)
    exact = theirs(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        far, near = ((model(inputs).float() - exact).abs().mean() for model in (theirs, ours))
        assert ours(inputs).dtype == torch.bfloat16
    assert near <= far * 1.02


def test_merged_and_switched_off_it_is_pefts():
    _, ours = layers()
    inputs = torch.randn(3, 24)
    adapted = ours(inputs)
    ours[0].merge()
    torch.testing.assert_close(ours(inputs), adapted)
    ours[0].unmerge()
    ours[0].enable_adapters(False)
    torch.testing.assert_close(ours(inputs), ours[0].base_layer(inputs))
