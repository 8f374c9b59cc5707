"""Optimizers, schedules, budgets, hardware."""

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from mmexp.compose import compose, resolved
from mmexp.errors import RequestError
from mmexp.pace import limits_in_force
from mmexp.training import optimizer as factories
from mmexp.training.budget import Budget, DefaultBudget, Length
from mmexp.training.checkpoint import Checkpointing
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
    both = Budget(steps=100, samples=640).length(64, 1000, 1.0)
    assert both == Length(10, "samples", "reached before budget.steps=100")
    assert Budget(samples=641).length(64, 1000, 1.0) == Length(11, "samples")
    assert Budget(epochs=2).length(64, 1000, 1.0) == Length(30, "epochs")
    assert Budget(flops=1e6).length(64, 1000, 1e4) == Length(100, "flops")
    assert Budget(seconds=5).length(64, 1000, 1.0) == Length(None, "seconds")
    with pytest.raises(RequestError, match="no limit is set"):
        Budget().length(64, 1000, 1.0)


def test_a_limit_of_the_user_replaces_the_default():
    default = DefaultBudget(epochs=15)
    assert Budget(default=default).length(64, 128, 1.0) == Length(30, "default.epochs")
    assert Budget(steps=1000, default=default).length(64, 128, 1.0) == Length(1000, "steps")
    assert Budget(seconds=9.0, default=default).length(64, 128, 1.0) == Length(None, "seconds")
    assert Budget(seconds=9.0, default=default).limits == {"seconds": 9.0}


def test_default_epochs_of_small_data_are_at_least_min_steps():
    default = DefaultBudget(epochs=15, min_steps=400)
    assert Budget(default=default).length(128, 357, 1.0) == Length(400, "default.min_steps", "15 epochs are 30 steps")
    assert Budget(default=default).length(128, 12800, 1.0) == Length(1500, "default.epochs")
    assert Budget(epochs=2, default=default).length(128, 357, 1.0) == Length(4, "epochs")
    capped = DefaultBudget(epochs=15, steps=100, min_steps=400)
    assert Budget(default=capped).length(128, 357, 1.0).steps == 100


@pytest.mark.parametrize("steps", [1, 8, 100, 499, 2000])
@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_the_default_warm_up_reaches_the_rate_and_the_schedule_decays(name, steps):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    factor = getattr(factories, name)(optimizer, steps).lr_lambdas[0]
    factors = [factor(step) for step in range(steps + 1)]
    assert max(factors) == 1.0 and factors.index(1.0) == min(50, steps // 10)
    assert factors[-1] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("keys", "interval"),
    [
        ({}, 50),
        ({"validate_every_epochs": 0.5}, 5),
        ({"validate_every_epochs": 1}, 10),
        ({"validate_every_steps": 7}, 7),
        ({"validate_every_steps": 999}, 150),
        ({"validate_every_epochs": 1000}, 150),
    ],
)
def test_validations_come_after_epochs_parts_of_them_or_steps(keys, interval):
    assert Checkpointing(**keys).validation_interval(epoch_steps=10, total_steps=150) == interval


def test_small_data_is_validated_no_more_than_twenty_times():
    assert Checkpointing().validation_interval(epoch_steps=2, total_steps=400) == 20
    with pytest.raises(RequestError, match="both set"):
        Checkpointing(validate_every_epochs=1, validate_every_steps=3)


def budget_of(*overrides: str) -> dict:
    return limits_in_force(resolved(compose(overrides))[0]["budget"])


def test_experiments_of_the_package_set_defaults_and_those_of_users_set_limits(tmp_path):
    assert budget_of("experiment=emoji") == {"epochs": 11}
    assert budget_of("experiment=emoji", "budget.steps=1000") == {"steps": 1000}
    assert budget_of("experiment=few_shot", "budget.epochs=3") == {"epochs": 3}
    assert budget_of("budget.steps=20", "budget.samples=100") == {"steps": 20, "samples": 100}
    folder = tmp_path / "experiment"
    folder.mkdir()
    text = "# @package _global_\ndefaults: [/experiment/emoji]\nbudget: {samples: 900}\n"
    (folder / "mine.yaml").write_text(text)
    own, _ = resolved(compose(["experiment=mine", "budget.steps=7"], str(tmp_path)))
    assert limits_in_force(own["budget"]) == {"steps": 7, "samples": 900}


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[2] / "conf" / "experiment").glob("*.yaml")), ids=lambda file: file.stem
)
def test_no_packaged_experiment_sets_what_counts_as_the_users(file):
    budget = yaml.safe_load(file.read_text()).get("budget", {})
    assert set(budget) <= {"default"}


def test_a_gpu_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RequestError, match=r"hardware.accelerator=gpu: torch sees no GPU"):
        Hardware(accelerator="gpu").trainer_arguments()
    assert Hardware(devices=2, num_nodes=3).processes() == 6
