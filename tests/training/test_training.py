"""Optimizers, schedules, budgets, hardware."""

import pytest
import torch
from torch import nn

from mmexp.errors import RequestError
from mmexp.training import optimizer as factories
from mmexp.training.budget import Budget
from mmexp.training.groups import parameter_groups
from mmexp.training.hardware import Hardware


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "rmsprop", "adagrad", "lion", "muon"])
def test_every_optimizer_lowers_a_loss_and_decays_matrices_only(name):
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 1), torch.randn(32, 4)
    optimizer = getattr(factories, name)(parameter_groups(layer), lr=0.01, weight_decay=0.1)
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.1, 0.0]
    losses = []
    for _ in range(20):
        loss = (layer(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("name", "options", "rates"),
    [
        ("constant", {}, {0: 1.0, 99: 1.0}),
        ("linear", {"warmup_steps": 10}, {0: 1 / 11, 10: 1.0, 55: 0.5, 100: 0.0}),
        ("cosine", {"warmup_steps": 0, "end": 0.1}, {0: 1.0, 50: 0.55, 100: 0.1}),
    ],
)
def test_schedules(name, options, rates):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = getattr(factories, name)(optimizer, 100, **options)
    for step in range(101):
        if step in rates:
            assert schedule.get_last_lr()[0] == pytest.approx(rates[step]), step
        optimizer.step()
        schedule.step()


def test_the_first_limit_ends_the_budget():
    assert Budget(steps=100, samples=640).total_steps(64, 1000, 1.0) == (10, "samples")
    assert Budget(samples=641).total_steps(64, 1000, 1.0) == (11, "samples")
    assert Budget(epochs=2).total_steps(64, 1000, 1.0) == (30, "epochs")
    assert Budget(flops=1e6).total_steps(64, 1000, 1e4) == (100, "flops")
    assert Budget(seconds=5).total_steps(64, 1000, 1.0) == (None, "seconds")
    with pytest.raises(RequestError, match="nothing says when to end"):
        Budget().total_steps(64, 1000, 1.0)


def test_a_gpu_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RequestError, match=r"hardware.accelerator=gpu: torch sees no GPU"):
        Hardware(accelerator="gpu").trainer_arguments()
    assert Hardware(devices=2, num_nodes=3).processes() == 6
