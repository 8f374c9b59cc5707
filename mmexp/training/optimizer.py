"""Optimizers and learning-rate schedules, as plain factories over torch.optim."""

from collections.abc import Callable, Iterable
from functools import partial
from math import cos, pi
from typing import Any

from torch import nn, optim
from torch.optim.lr_scheduler import LambdaLR

from mmexp.pace import Pace
from mmexp.types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat


def _groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices only: norms, biases and temperatures are left alone, as CLIP and most others do."""
    trained = [p for p in parameters if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def adamw(
    parameters: Iterable[nn.Parameter],
    *,
    lr: PositiveFloat = 1e-3,
    weight_decay: NonNegativeFloat = 0.05,
    betas: tuple[float, float] = (0.9, 0.98),
) -> optim.Optimizer:
    """AdamW (arXiv:1711.05101), fused."""
    return optim.AdamW(_groups(parameters, weight_decay), lr=lr, betas=(betas[0], betas[1]), fused=True)


def adam(
    parameters: Iterable[nn.Parameter],
    *,
    lr: PositiveFloat = 1e-3,
    weight_decay: NonNegativeFloat = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
) -> optim.Optimizer:
    """Adam (arXiv:1412.6980), fused."""
    return optim.Adam(_groups(parameters, weight_decay), lr=lr, betas=(betas[0], betas[1]), fused=True)


def sgd(
    parameters: Iterable[nn.Parameter],
    *,
    lr: PositiveFloat = 0.1,
    weight_decay: NonNegativeFloat = 1e-4,
    momentum: Fraction = 0.9,
    nesterov: bool = True,
) -> optim.Optimizer:
    """SGD with momentum."""
    groups = _groups(parameters, weight_decay)
    return optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov and momentum > 0)


def rmsprop(
    parameters: Iterable[nn.Parameter],
    *,
    lr: PositiveFloat = 1e-3,
    weight_decay: NonNegativeFloat = 0.0,
    alpha: Fraction = 0.99,
    momentum: Fraction = 0.0,
) -> optim.Optimizer:
    """RMSprop."""
    return optim.RMSprop(_groups(parameters, weight_decay), lr=lr, alpha=alpha, momentum=momentum)


def adagrad(
    parameters: Iterable[nn.Parameter], *, lr: PositiveFloat = 1e-2, weight_decay: NonNegativeFloat = 0.0
) -> optim.Optimizer:
    """Adagrad."""
    return optim.Adagrad(_groups(parameters, weight_decay), lr=lr)


Schedule = Callable[[optim.Optimizer, int | Pace], LambdaLR]

# Where time ends a run, the steps of a warm-up may be more than there will be.
_LONGEST_WARM_UP = 0.1


def _warmed(step: int, length: int | Pace, warmup: int, shape: Callable[[float], float]) -> float:
    if isinstance(length, Pace):
        return _warmed_by_pace(step, length, warmup, shape)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return shape(min(1.0, (step - warmup) / max(1, length - warmup)))


def _warmed_by_pace(step: int, pace: Pace, warmup: int, shape: Callable[[float], float]) -> float:
    share = pace.share(step)
    if share >= 1:
        return shape(1.0)
    if pace.warm is None:
        risen = max((step + 1) / (warmup + 1), share / _LONGEST_WARM_UP)
        if risen < 1:
            return risen
        pace.warm = share
    return shape((share - pace.warm) / (1 - pace.warm))


def _flat(_: float) -> float:
    return 1.0


def _falling(done: float, end: float) -> float:
    return 1 - (1 - end) * done


def _half_cosine(done: float, end: float) -> float:
    return end + (1 - end) * (1 + cos(pi * done)) / 2


def constant(optimizer: optim.Optimizer, length: int | Pace, *, warmup_steps: NonNegativeInt = 0) -> LambdaLR:
    """The optimizer's rate throughout, after a linear warm-up.

    Of this and all schedules `length` is the run's steps. Where it may be time that ends the run, it is the run's pace: then
    the schedule follows the share that is done, and the warm-up takes `warmup_steps`, or a tenth of the run if that is less.
    """
    return LambdaLR(optimizer, partial(_warmed, length=length, warmup=warmup_steps, shape=_flat))


def linear(
    optimizer: optim.Optimizer, length: int | Pace, *, warmup_steps: NonNegativeInt = 50, end: Fraction = 0.0
) -> LambdaLR:
    """Linear warm-up, then linear fall to `end` times the rate at the last step."""
    shape = partial(_falling, end=end)
    return LambdaLR(optimizer, partial(_warmed, length=length, warmup=warmup_steps, shape=shape))


def cosine(
    optimizer: optim.Optimizer, length: int | Pace, *, warmup_steps: NonNegativeInt = 50, end: Fraction = 0.0
) -> LambdaLR:
    """Linear warm-up, then half a cosine down to `end` times the rate at the last step (arXiv:1608.03983)."""
    shape = partial(_half_cosine, end=end)
    return LambdaLR(optimizer, partial(_warmed, length=length, warmup=warmup_steps, shape=shape))
