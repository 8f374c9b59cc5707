"""Optimizers and learning-rate schedules, as plain factories over torch.optim and timm.optim.

Of every optimizer `groups` are those of `mmexp.training.groups`.
"""

from collections.abc import Callable
from functools import partial
from math import cos, pi
from typing import Any

import torch
from torch import nn, optim
from torch.optim.lr_scheduler import LambdaLR

from mmexp.pace import Pace
from mmexp.training.groups import Group
from mmexp.types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat


def adamw(
    groups: list[Group],
    *,
    lr: PositiveFloat = 1e-3,
    weight_decay: NonNegativeFloat = 0.05,
    betas: tuple[float, float] = (0.9, 0.98),
    eps: PositiveFloat = 1e-6,
) -> optim.Optimizer:
    """AdamW (arXiv:1711.05101), fused. `betas` and `eps` are those of CLIP's vision transformers (arXiv:2103.00020, table 18)."""
    return optim.AdamW(groups, lr=lr, weight_decay=weight_decay, betas=(betas[0], betas[1]), eps=eps, fused=True)


def adam(
    groups: list[Group],
    *,
    lr: PositiveFloat = 1e-3,
    weight_decay: NonNegativeFloat = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
) -> optim.Optimizer:
    """Adam (arXiv:1412.6980), fused."""
    return optim.Adam(groups, lr=lr, weight_decay=weight_decay, betas=(betas[0], betas[1]), fused=True)


def sgd(
    groups: list[Group],
    *,
    lr: PositiveFloat = 0.1,
    weight_decay: NonNegativeFloat = 1e-4,
    momentum: Fraction = 0.9,
    nesterov: bool = True,
) -> optim.Optimizer:
    """SGD with momentum."""
    nesterov = nesterov and momentum > 0
    return optim.SGD(groups, lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov)


def rmsprop(
    groups: list[Group],
    *,
    lr: PositiveFloat = 1e-3,
    weight_decay: NonNegativeFloat = 0.0,
    alpha: Fraction = 0.99,
    momentum: Fraction = 0.0,
) -> optim.Optimizer:
    """RMSprop."""
    return optim.RMSprop(groups, lr=lr, weight_decay=weight_decay, alpha=alpha, momentum=momentum)


def adagrad(groups: list[Group], *, lr: PositiveFloat = 1e-2, weight_decay: NonNegativeFloat = 0.0) -> optim.Optimizer:
    """Adagrad."""
    return optim.Adagrad(groups, lr=lr, weight_decay=weight_decay)


def lion(
    groups: list[Group],
    *,
    lr: PositiveFloat = 1e-4,
    weight_decay: NonNegativeFloat = 0.5,
    betas: tuple[float, float] = (0.9, 0.99),
) -> optim.Optimizer:
    """Lion (arXiv:2302.06675), by timm: each weight moves by the rate, in the direction of a sign."""
    from timm.optim import Lion

    return Lion(groups, lr=lr, weight_decay=weight_decay, betas=(betas[0], betas[1]))


def muon(
    groups: list[Group],
    *,
    lr: PositiveFloat = 1e-3,
    weight_decay: NonNegativeFloat = 0.05,
    momentum: Fraction = 0.95,
    betas: tuple[float, float] = (0.9, 0.98),
    eps: PositiveFloat = 1e-6,
) -> optim.Optimizer:
    """Muon (Jordan et al. 2024) by timm, for the matrices of hidden layers, and AdamW with `betas` and `eps` for all else.

    A step of a matrix is as large as AdamW's (arXiv:2502.16982, eq. 4), so that one rate and decay serve both. The weights of a
    convolution are a matrix of a row for each channel that it gives.
    """
    from timm.optim import Muon

    # Nesterov's momentum is Muon's alone: with it timm would take NAdamW for the others.
    how: list[Group] = [
        {**group, "use_muon": group["hidden"], "use_fallback": not group["hidden"], "nesterov": group["hidden"]}
        | ({} if group["hidden"] else {"eps": eps})
        for group in groups
    ]
    # The author's polynomial, not timm's own.
    moments: dict[str, Any] = {"momentum": momentum, "betas": (betas[0], betas[1]), "ns_coefficients": "original"}
    return Muon(how, lr=lr, weight_decay=weight_decay, **moments)


Schedule = Callable[[optim.Optimizer, int | Pace], LambdaLR]

# The default warm-up: so many steps, but no more than this share of the training.
DEFAULT_WARM_UP_STEPS = 50
LONGEST_WARM_UP = 0.1


def _warmed(step: int, length: int | Pace, warmup: int | None, shape: Callable[[float], float]) -> float:
    if isinstance(length, Pace):
        return _warmed_by_pace(step, length, DEFAULT_WARM_UP_STEPS if warmup is None else warmup, shape)
    warmup = min(DEFAULT_WARM_UP_STEPS, int(LONGEST_WARM_UP * length)) if warmup is None else warmup
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return shape(min(1.0, (step - warmup) / max(1, length - warmup)))


def _warmed_by_pace(step: int, pace: Pace, warmup: int, shape: Callable[[float], float]) -> float:
    share = pace.share(step)
    if share >= 1:
        return shape(1.0)
    if pace.warm is None:
        risen = max((step + 1) / (warmup + 1), share / LONGEST_WARM_UP)
        if risen < 1:
            return risen
        pace.warm = share
    return shape((share - pace.warm) / (1 - pace.warm))


def peak(schedule: Schedule, steps: int) -> tuple[int, float] | None:
    """Return the step at which a schedule first reaches its highest learning rate, and that rate.

    Args:
        schedule: a schedule of the configuration, with its options bound.
        steps: optimizer steps of the training.

    Returns:
        The step, from 0, and the factor on the optimizer's rate; None for a schedule that is none of this module's.
    """
    if getattr(schedule, "func", schedule).__module__ != __name__:
        return None
    factor = schedule(optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), steps).lr_lambdas[0]
    # These rise once, to the full rate at most.
    step = next((step for step in range(steps) if factor(step) >= 1.0), steps - 1)
    return step, factor(step)


def _flat(_: float) -> float:
    return 1.0


def _falling(done: float, end: float) -> float:
    return 1 - (1 - end) * done


def _half_cosine(done: float, end: float) -> float:
    return end + (1 - end) * (1 + cos(pi * done)) / 2


def constant(optimizer: optim.Optimizer, length: int | Pace, *, warmup_steps: NonNegativeInt | None = 0) -> LambdaLR:
    """The optimizer's rate throughout, after a linear warm-up.

    Args:
        optimizer: its rates are those at the peak.
        length: of this and all schedules, the run's optimizer steps. Where it may be time that ends the run, its pace: the
            schedule then follows the share that is done, and the warm-up takes a tenth of the run at most.
        warmup_steps: None is 50, or a tenth of the run's steps if that is less.
    """
    return LambdaLR(optimizer, partial(_warmed, length=length, warmup=warmup_steps, shape=_flat))


def linear(
    optimizer: optim.Optimizer, length: int | Pace, *, warmup_steps: NonNegativeInt | None = None, end: Fraction = 0.0
) -> LambdaLR:
    """Linear warm-up, then linear fall to `end` times the rate at the last step."""
    shape = partial(_falling, end=end)
    return LambdaLR(optimizer, partial(_warmed, length=length, warmup=warmup_steps, shape=shape))


def cosine(
    optimizer: optim.Optimizer, length: int | Pace, *, warmup_steps: NonNegativeInt | None = None, end: Fraction = 0.0
) -> LambdaLR:
    """Linear warm-up, then half a cosine down to `end` times the rate at the last step (arXiv:1608.03983)."""
    shape = partial(_half_cosine, end=end)
    return LambdaLR(optimizer, partial(_warmed, length=length, warmup=warmup_steps, shape=shape))
