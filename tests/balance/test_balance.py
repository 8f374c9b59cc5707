"""Each balance against its formula, computed anew, and on toy losses that fight over their parameters."""

import json
from functools import partial
from itertools import pairwise, product

import pytest
import torch
from golden.test_golden import FILE, OBJECTIVES, curve
from torch import nn

from mmexp.balance.dwa import DWA
from mmexp.balance.famo import FAMO
from mmexp.balance.fixed import Fixed
from mmexp.balance.gradnorm import GradNorm
from mmexp.balance.mgda import MGDA, shortest
from mmexp.balance.pcgrad import PCGrad, projected
from mmexp.balance.uncertainty import Uncertainty
from mmexp.tasks.balancing import BalancedStep, StepLosses


def seen(losses, shared=(), given=None, seed: int = 0, **more) -> StepLosses:
    """Return losses, as a step of one process shows them to a balance."""
    named = {f"loss{place}": loss for place, loss in enumerate(losses)}
    stated = dict(zip(named, given or [1.0] * len(losses), strict=True))
    return StepLosses(
        named, stated, torch.Generator().manual_seed(seed), lambda: list(shared), lambda tensor: tensor, **more
    )


def weights_of(balance, values, **more) -> torch.Tensor:
    return balance(seen([torch.tensor(value) for value in values], **more)).weights


def linear(gradients: torch.Tensor) -> tuple[list[torch.Tensor], nn.Parameter]:
    """Return losses (K) whose gradients on one shared parameter are the rows of `gradients (K, P)`."""
    shared = nn.Parameter(torch.ones(gradients.shape[1]))
    return [row @ shared + 5 for row in gradients], shared


@pytest.mark.parametrize("name", OBJECTIVES)
def test_fixed_weights_give_the_golden_curves(name):
    one = lambda losses: BalancedStep(Fixed(), seen(list(losses.values()))).loss  # noqa: E731
    assert curve(name, one) == pytest.approx(json.loads(FILE.read_text())[name], rel=1e-3)


def test_fixed_is_the_weighted_sum():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    BalancedStep(Fixed(), seen([x[0] ** 2, x[1] ** 3], given=[2.0, 0.5])).loss.backward()
    assert x.grad.tolist() == [2 * 2, 0.5 * 12]


def test_uncertainty_ends_at_its_closed_form():
    balance, values, given = Uncertainty(3, lr=0.05), [0.1, 1.0, 20.0], [1.0, 2.0, 0.5]
    for _ in range(600):
        weights = weights_of(balance, values, given=given)
    assert balance.log_variances.tolist() == pytest.approx(torch.tensor(values).log().tolist(), abs=1e-3)
    assert weights.tolist() == pytest.approx([10.0, 2.0, 0.025], rel=1e-3)


def test_uncertainty_takes_the_steps_of_torchs_adam():
    balance, s = Uncertainty(3), torch.zeros(3, requires_grad=True)
    adam = torch.optim.Adam([s], lr=0.025)
    for values in torch.rand(6, 3, generator=torch.Generator().manual_seed(0)) * 5:
        adam.zero_grad()
        (torch.exp(-s) * values + s).sum().backward()
        adam.step()
        weights_of(balance, values.tolist())
    torch.testing.assert_close(balance.log_variances, s.detach())


OPTIMUM = torch.tensor([180.0, 1.2, 0.31])


def test_weights_travel_to_their_optimum_at_a_rate_of_their_own():
    """Whatever the model's optimizer does: none of them is among its parameters."""
    uncertainty, gradnorm = Uncertainty(3), GradNorm(3, alpha=0.0)
    assert not [*uncertainty.parameters(), *gradnorm.parameters()]
    for _ in range(500):
        weights = weights_of(uncertainty, (1 / OPTIMUM).tolist())
        losses, shared = linear(torch.diag(1 / OPTIMUM))
        relative = gradnorm(seen(losses, [shared])).weights
    assert weights.tolist() == pytest.approx(OPTIMUM.tolist(), rel=0.05)
    # Its gradient is a sign near the optimum, about which it swings.
    assert (relative / relative.sum()).log().tolist() == pytest.approx(
        (OPTIMUM / OPTIMUM.sum()).log().tolist(), abs=0.5
    )


def test_a_loss_that_nears_zero_weighs_no_more_than_the_bound():
    uncertainty, gradnorm = Uncertainty(2, max_weight=50.0), GradNorm(2, alpha=0.0, max_ratio=10.0)
    for _ in range(400):
        weights = weights_of(uncertainty, [0.0, 1.0])
        losses, shared = linear(torch.diag(torch.tensor([1e-9, 1.0])))
        relative = gradnorm(seen(losses, [shared])).weights
    assert weights.tolist() == pytest.approx([50.0, 1.0], rel=0.02)
    assert (relative[0] / relative[1]).item() == pytest.approx(100.0, rel=1e-3)
    assert relative.sum().item() == pytest.approx(2)


def test_gradnorm_follows_its_equation():
    gradients = torch.tensor([[3.0, 4.0], [0.0, 1.0], [2.0, 0.0]])
    balance, alpha = GradNorm(3, alpha=1.5), 1.5
    logits = torch.tensor([0.5, 1.5, 1.0]).log().requires_grad_()
    balance.learned.values.copy_(logits.detach())
    balance.first.copy_(torch.tensor([2.0, 4.0, 8.0]))
    losses, shared = linear(gradients)
    found = balance.gradient(seen(losses, [shared]))
    # The gradients' norms as the paper writes them: of the weighted losses, each a function of its weight.
    weights = 3 * logits.softmax(0)
    again, point = linear(gradients)
    rows = [torch.autograd.grad(w * loss, point, create_graph=True)[0] for w, loss in zip(weights, again, strict=True)]
    norms = torch.stack([row.norm() for row in rows])
    ratios = torch.stack([loss.detach() for loss in again]) / torch.tensor([2.0, 4.0, 8.0])
    target = norms.detach().mean() * (ratios / ratios.mean()) ** alpha
    (norms - target).abs().sum().backward()
    torch.testing.assert_close(found, logits.grad)
    BalancedStep(balance, seen(losses, [shared])).loss.backward()
    torch.testing.assert_close(shared.grad, weights.detach() @ gradients)


def test_pcgrad_agrees_with_projections_of_whole_vectors():
    for seed in range(5):
        gradients = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed)).double()
        order, whole = torch.Generator().manual_seed(seed), torch.zeros(6).double()
        for own in range(4):
            vector = gradients[own].clone()
            for other in torch.randperm(4, generator=order).tolist():
                if other != own and vector.dot(gradients[other]) < 0:
                    vector -= vector.dot(gradients[other]) / gradients[other].dot(gradients[other]) * gradients[other]
            whole += vector
        shares = projected(gradients @ gradients.T, torch.Generator().manual_seed(seed))
        assert torch.allclose(shares @ gradients, whole)


def test_mgda_agrees_with_the_closed_form_for_two():
    for seed in range(20):
        a, b = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed)).double()
        first = ((b - a).dot(b) / (b - a).dot(b - a)).clamp(0, 1)
        stacked = torch.stack([a, b])
        assert torch.allclose(shortest(stacked @ stacked.T, 250), torch.stack([first, 1 - first]))


def test_mgda_finds_no_shorter_vector_on_a_grid():
    grid = torch.tensor([(a, b, 40 - a - b) for a, b in product(range(41), repeat=2) if a + b <= 40]).double() / 40
    for seed in range(10):
        vectors = torch.randn(3, 5, generator=torch.Generator().manual_seed(seed)).double()
        weights = shortest(vectors @ vectors.T, 250)
        assert weights.min() >= 0
        assert weights.sum().item() == pytest.approx(1)
        assert (weights @ vectors).norm() <= (grid @ vectors).norm(dim=1).min() * (1 + 1e-6)


def test_dwa_follows_its_formula():
    balance = DWA(2, temperature=2.0, every=3)
    steps = [[4.0, 1.0], [3.0, 1.0], [2.0, 1.0], [2.0, 1.0], [1.0, 0.5], [0.0, 0.0], [7.0, 7.0]]
    weights = [weights_of(balance, values) for values in steps]
    assert all(weight.tolist() == [1.0, 1.0] for weight in weights[:6])
    ratios = torch.tensor([1.0 / 3.0, 0.5 / 1.0])
    assert torch.allclose(weights[6], 2 * torch.exp(ratios / 2) / torch.exp(ratios / 2).sum())


def test_famo_agrees_with_adam_on_the_logits():
    balance, logits = FAMO(3, weight_decay=0.01), torch.zeros(3, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=0.025, weight_decay=0.01)
    draws = torch.rand(6, 2, 3, generator=torch.Generator().manual_seed(0)) + 0.1
    for before, after in draws:
        z = logits.softmax(0)
        losses = before.clone().requires_grad_()
        # The gradient of the logarithms' sum, normalised as in the paper.
        expected = torch.autograd.grad((z.detach() * losses.log()).sum(), losses)[0] / (z.detach() / before).sum()
        assert torch.allclose(weights_of(balance, before.tolist()), expected, atol=1e-6)
        balance.learn(after)
        adam.zero_grad()
        z.backward(before.log() - after.log())
        adam.step()
        assert torch.allclose(balance.logits, logits, atol=1e-6)


def descend(balance, point, losses, given=None, steps=300, lr=0.05) -> tuple[torch.Tensor, list[list[float]]]:
    """Return where gradient descent from `point` ends, and the losses on its way."""
    shared, way = nn.Parameter(torch.tensor(point)), []
    optimizer = torch.optim.SGD([shared], lr=lr)
    for step in range(steps):
        optimizer.zero_grad()
        balanced = BalancedStep(balance, seen(losses(shared), [shared], given, seed=step))
        balanced.loss.backward()
        balanced.after_backward()
        optimizer.step()
        now = torch.stack(losses(shared)).detach()
        if hasattr(balance, "learn"):
            balance.learn(now)
        way.append(now.tolist())
    return shared.detach(), way


def opposed(point):
    """Two quadratics: the Pareto front is where the second coordinate is 0 and the first between -1 and 1."""
    x, y = point
    return [(x - 1) ** 2 + 0.01 * y**2, (x + 1) ** 2 + y**2]


@pytest.mark.parametrize("balance", [PCGrad(), MGDA()], ids=["pcgrad", "mgda"])
def test_gradients_that_agree_reach_the_pareto_front(balance):
    start = [-0.5, 1.0]
    (x, y), way = descend(balance, start, opposed)
    assert abs(y) < 1e-3
    assert -1 <= x <= 1
    if isinstance(balance, MGDA):
        every = [[loss.item() for loss in opposed(torch.tensor(start))], *way]
        assert all(after <= before + 1e-6 for a, b in pairwise(every) for before, after in zip(a, b, strict=True))


def test_a_badly_scaled_sum_does_not_reach_the_front():
    (_, y), way = descend(Fixed(), [-0.5, 1.0], opposed, given=[1.0, 1e-3])
    assert y > 0.5
    assert way[-1][1] > 2 * opposed(torch.tensor([-0.5, 1.0]))[1]


def test_famo_lowers_the_worst_loss():
    def scaled(point):
        x, y = point
        return [100 * ((x - 1) ** 2 + y**2 + 2), (x + 1) ** 2 + y**2 + 2]

    start = torch.stack(scaled(torch.tensor([0.2, 3.0])))
    worst = {}
    for name, balance in (("famo", FAMO(2)), ("fixed", Fixed())):
        _, way = descend(balance, [0.2, 3.0], scaled, lr=0.005)
        worst[name] = max((torch.tensor(way[-1]) / start).tolist())
    assert worst["famo"] < 0.3
    assert worst["fixed"] > 0.4


def test_heads_follow_their_own_loss():
    shared, heads = nn.Parameter(torch.tensor([1.0, 1.0])), nn.Parameter(torch.tensor([2.0, 3.0]))
    losses = [heads[0] * shared[0], 10 * heads[1] * shared[1]]
    balanced = BalancedStep(MGDA(), seen(losses, [shared], given=[1.0, 0.5]))
    balanced.loss.backward()
    balanced.after_backward()
    assert heads.grad.tolist() == [1.0, 5.0]
    # The shortest vector between (2, 0) and (0, 15).
    assert shared.grad.tolist() == pytest.approx([2 * 225 / 229, 15 * 4 / 229])


@pytest.mark.parametrize(
    "balance",
    [Fixed(), Uncertainty(2), GradNorm(2), PCGrad(), MGDA(), FAMO(2), DWA(2)],
    ids=lambda balance: type(balance).__name__,
)
def test_a_loss_of_weight_zero_moves_nothing_and_hinders_nothing(balance):
    shared = nn.Parameter(torch.tensor([1.0, 1.0]))
    balanced = BalancedStep(balance, seen([shared[0] ** 2, shared[1] ** 2], [shared], given=[0.0, 1.0]))
    balanced.loss.backward()
    balanced.after_backward()
    assert shared.grad[0] == 0
    assert shared.grad[1] > 0


def test_cosines_and_weights_are_named_in_alphabetical_order():
    shared = nn.Parameter(torch.zeros(2))
    named = {"b": shared[0], "a": shared[0] + shared[1], "c": -shared[1], "d": torch.zeros((), requires_grad=True)}
    losses = StepLosses(
        named, {"b": 1.0, "a": 2.0, "c": 3.0, "d": 4.0}, torch.Generator(), lambda: [shared], lambda t: t
    )
    numbers = {name: value.item() for name, value in BalancedStep(Fixed(), losses).numbers(cosines=True).items()}
    half = 0.5**0.5
    assert numbers == pytest.approx(
        {"weight_a": 2, "weight_b": 1, "weight_c": 3, "weight_d": 4}
        | {"cosine_a_b": half, "cosine_a_c": -half, "cosine_a_d": 0, "cosine_b_c": 0, "cosine_b_d": 0, "cosine_c_d": 0}
    )


def test_gradients_are_computed_only_when_looked_at():
    losses, shared = linear(torch.eye(2))
    for balance, expected in ((Fixed(), False), (FAMO(2), False), (PCGrad(), True), (GradNorm(2), True)):
        step = BalancedStep(balance, seen(losses, [shared]))
        assert any(name.startswith("cosine") for name in step.numbers(cosines=False)) == expected


def test_the_scale_of_fp16_stays_in_the_gradients_alone():
    gradients = torch.tensor([[1.0, -2.0], [-1.0, 0.5]])
    found = []
    for scale in (1.0, 1024.0):
        losses, shared = linear(gradients)
        step = StepLosses(
            {"a": losses[0], "b": losses[1]},
            {"a": 1, "b": 1},
            torch.Generator(),
            partial(list, [shared]),
            lambda t: t,
            scale,
        )
        balanced = BalancedStep(MGDA(), step)
        (scale * balanced.loss).backward()
        balanced.after_backward()
        found.append(shared.grad / scale)
    assert torch.allclose(found[0], found[1])
