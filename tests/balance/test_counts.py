"""Losses that no row of a step counts in: they are 0, and no balance takes that for something learned."""

import pytest
import torch
from balance.test_balance import linear, seen
from stand_ins import TinyImage, TinyText, batch_of
from torch import nn

from mmexp.balance.dwa import DWA
from mmexp.balance.famo import FAMO
from mmexp.balance.gradnorm import GradNorm
from mmexp.balance.uncertainty import Uncertainty
from mmexp.fusion.concat import ConcatFusion
from mmexp.model import Model
from mmexp.objectives.classify import Classify
from mmexp.tasks.balancing import StepLosses
from mmexp.tasks.pretrain import Pretrain
from mmexp.training.optimizer import adamw, constant


def some(values, **more) -> StepLosses:
    return seen([torch.tensor(value) for value in values], lacking=True, **more)


def test_a_loss_counts_where_it_is_of_a_row_of_any_process():
    values = [torch.tensor(1.0), torch.tensor(0.0), torch.tensor(0.0)]
    named, given = dict(zip("abc", values, strict=True)), dict.fromkeys("abc", 1.0)
    others = lambda own: (own + torch.tensor([1.0, 2.0, 0.0])) / 2  # noqa: E731
    assert StepLosses(named, given, torch.Generator(), list, others, lacking=True).counts.tolist() == [
        True,
        True,
        False,
    ]
    # Where all rows have all, a loss of 0 is one that has been learned.
    assert StepLosses(named, given, torch.Generator(), list, others).counts.all()


def test_famo_weighs_those_that_count_as_if_they_were_alone():
    balance, alone = FAMO(3), FAMO(2)
    balance.logits.copy_(torch.tensor([0.3, 2.0, -0.1]))
    alone.logits.copy_(balance.logits[[0, 2]])
    found, expected = balance(some([2.0, 0.0, 0.5])).weights, alone(some([2.0, 0.5])).weights
    assert found[1] == 0 and torch.allclose(found[[0, 2]], expected)
    for one, after in ((balance, [1.0, 0.0, 0.5]), (alone, [1.0, 0.5])):
        one.learn(torch.tensor(after))
    assert torch.allclose(balance.logits[[0, 2]], alone.logits, atol=1e-6)
    assert balance.logits[1] == pytest.approx(2.0, abs=0.03)
    nothing = balance(some([0.0, 0.0, 0.0]))
    assert nothing.weights.tolist() == [0, 0, 0]


def test_uncertainty_ends_at_its_closed_form_whatever_steps_a_loss_is_missing_from():
    balance, values = Uncertainty(2, lr=0.05), [0.1, 20.0]
    for step in range(1500):
        balance(some([values[0], values[1] * (step % 3 == 0)]))
    assert balance.log_variances.tolist() == pytest.approx(torch.tensor(values).log().tolist(), abs=0.05)


def test_dwas_periods_are_means_over_the_steps_that_count():
    balance = DWA(2, every=2)
    for values in ([4.0, 0.0], [4.0, 1.0], [2.0, 0.5], [2.0, 0.0]):
        balance(some(values))
    assert balance.last.tolist() == [2.0, 0.5] and balance.before.tolist() == [4.0, 1.0]
    assert balance(some([1.0, 0.0])).weights.tolist() == pytest.approx([1.0, 1.0])
    # A period without any says nothing.
    for values in ([1.0, 0.0], [1.0, 0.0]):
        balance(some(values))
    assert balance.last[0] == 1 and balance(some([1.0, 1.0])).weights.isfinite().all()


def test_gradnorms_mean_is_of_the_losses_that_count():
    moved = []
    for count in (3, 2):
        balance = GradNorm(count)
        losses, shared = linear(torch.tensor([[3.0, 4.0], [0.0, 2.5], [0.0, 0.0]])[:count])
        losses[2:] = [0.0 * shared.sum()] * (count - 2)
        balance.learned.values[:2] = torch.tensor([0.4, 0.6]).log()
        moved.append(balance.gradient(seen(losses, [shared], lacking=True))[:2].sign())
        balance(seen(losses, [shared], lacking=True))
        assert (balance.learned.steps == torch.tensor([1.0, 1.0, 0.0][:count])).all()
    assert torch.equal(*moved)


def test_a_task_tells_by_its_batch_that_a_loss_may_not_count():
    torch.manual_seed(0)
    model = Model({"image": TinyImage(), "text": TinyText()}, ConcatFusion({"image": 16, "text": 12}, 12, 16))
    heads = {name: Classify(model.shape(4), source=name) for name in ("image", "text")}
    task = Pretrain(model, heads, dict.fromkeys(heads, 1.0), nn.Identity(), adamw, constant)
    batch = batch_of(4)
    nobody = {**batch, "present": {"image": torch.zeros(4, dtype=torch.bool)}}
    for given, expected in ((batch, [True, True]), (nobody, [False, True])):
        losses, _ = task.terms(task.views(given, 0, 0.5))
        assert losses.names == ["classify", "text_classify"] and losses.counts.tolist() == expected
