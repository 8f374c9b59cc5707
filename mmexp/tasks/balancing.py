"""One training step's losses made into one, as a balance decides."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import combinations
from types import MappingProxyType

import torch
from torch import Tensor, nn

from mmexp.step import Balanced
from mmexp.tasks.views import StepViews


class StepLosses:
    """Implements `mmexp.step.Losses`: what costs is computed when it is asked for, and once.

    `average` takes the mean over processes. `scale` is what fp16 multiplies losses with, so that small gradients last. In data
    that are `lacking` modalities a loss may be of no row. `totals` are the counts of the losses over all processes, of those
    that have one.
    """

    def __init__(
        self,
        losses: Mapping[str, Tensor],
        given: Mapping[str, float],
        generator: torch.Generator,
        shared: Callable[[], Sequence[nn.Parameter]],
        average: Callable[[Tensor], Tensor],
        scale: float = 1.0,
        lacking: bool = False,
        totals: Mapping[str, Tensor] = MappingProxyType({}),
    ):
        self.names = sorted(losses)
        self.each = [losses[name].float() for name in self.names]
        self.losses = torch.stack(self.each)
        self.given = self.losses.new_tensor([given[name] for name in self.names])
        self.generator, self.average, self.scale = generator, average, scale
        self.lacking, self._shared, self.totals = lacking, shared, totals

    @cached_property
    def shared(self) -> Sequence[nn.Parameter]:
        """The parameters that all losses train, counted up where a balance looks at them."""
        return self._shared()

    @cached_property
    def values(self) -> Tensor:
        """The losses (K,) without gradient, averaged over processes."""
        return self.average(self.losses.detach().clone())

    @cached_property
    def counts(self) -> Tensor:
        """Which losses (K,) are of any row of any process. Of no row they are 0, as hardly any other ever is."""
        found = self.values != 0 if self.lacking else torch.ones_like(self.values, dtype=torch.bool)
        known = {place: self.totals[name] > 0 for place, name in enumerate(self.names) if name in self.totals}
        return torch.stack([known.get(place, own) for place, own in enumerate(found)])

    @cached_property
    def gradients(self) -> Tensor:
        """The gradients (K, P) of the losses, times `scale`, on all shared parameters, averaged over processes."""
        rows = []
        with torch.autocast(self.losses.device.type, enabled=False):
            for loss in self.each:
                if not loss.requires_grad:  # no row of the batch counts in it
                    rows.append(torch.cat([torch.zeros_like(p, dtype=torch.float).flatten() for p in self.shared]))
                    continue
                found = torch.autograd.grad(
                    self.scale * loss, self.shared, retain_graph=True, allow_unused=True, materialize_grads=True
                )
                rows.append(torch.cat([gradient.flatten().float() for gradient in found]))
        return self.average(torch.stack(rows))

    @cached_property
    def products(self) -> Tensor:
        """The products (K, K) of the gradients, fp64 on the CPU."""
        with torch.autocast(self.losses.device.type, enabled=False):
            return (self.gradients @ self.gradients.T).double().cpu() / self.scale**2

    def cosines(self) -> dict[str, Tensor]:
        """Return the cosine between the gradients of every pair of losses; 0 where one of them is nothing."""
        lengths = self.products.diag().sqrt()
        cosines = self.products / lengths.outer(lengths).clamp_min(torch.finfo(torch.double).tiny)
        places = combinations(range(len(self.names)), 2)
        return {f"cosine_{self.names[a]}_{self.names[b]}": cosines[a, b] for a, b in places}

    def replace_gradients(self, weights: Tensor) -> None:
        """Put the sum of the losses' gradients by `weights (K,)` in place of what a backward left at the shared parameters."""
        parts = (weights @ self.gradients).split([parameter.numel() for parameter in self.shared])
        for parameter, part in zip(self.shared, parts, strict=True):
            if parameter.grad is not None:
                parameter.grad.copy_(part.view_as(parameter))


class BalancedStep:
    """What `balance` decided on `losses`: the scalar `loss` to go back from, and what is to be done after that."""

    def __init__(self, balance: Callable[[StepLosses], Balanced], losses: StepLosses):
        self.losses = losses
        self.weights, self.shared, extra = balance(losses)
        self.loss = (self.weights * losses.losses).sum() + extra

    def numbers(self, cosines: bool) -> dict[str, Tensor]:
        """Return the weight of every loss, and the cosines of their gradients where asked for or known anyway."""
        weights = (self.weights if self.shared is None else self.shared).detach()
        numbers = {f"weight_{name}": weight for name, weight in zip(self.losses.names, weights, strict=True)}
        return numbers | (self.losses.cosines() if cosines or "gradients" in vars(self.losses) else {})

    def after_backward(self) -> None:
        """Correct the gradients of the shared parameters, where their weights are not those of the heads."""
        if self.shared is not None:
            self.losses.replace_gradients(self.shared)


def shares_of(
    counts: Mapping[str, Tensor], add: Callable[[Tensor], Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return by what each loss is multiplied, so that its mean over processes is the mean over all that counts in any of them.

    Args:
        counts: Over how many rows (words, patches) of this process each loss is a mean, by its name.
        add: Returns the sum over processes of a tensor `(K + 1,)`.

    Returns:
        The factors, this process's count over the mean count of the processes (1 where nothing counts in any), and the
        counts of all processes together.
    """
    if not counts:
        return {}, {}
    names = sorted(counts)
    own = torch.stack([*(counts[name].detach().float() for name in names), torch.ones_like(counts[names[0]]).float()])
    every = add(own)
    total, processes = every[:-1], every[-1]
    shares = torch.where(total > 0, own[:-1] * processes / total.where(total > 0, 1), 1)
    return dict(zip(names, shares, strict=True)), dict(zip(names, total, strict=True))


def share_of(loss: Tensor, share: Tensor) -> Tensor:
    """Return `loss` times its share; 0 where nothing counts in this process, whose loss is not known in an evaluation."""
    return torch.where(share > 0, loss, 0.0) * share


def count_losses(objectives: Mapping[str, nn.Module], views: StepViews) -> int:
    """Return how many losses the objectives have; weights, buffers and the random numbers to come stay as they are."""
    whole = nn.ModuleList([views.model, *objectives.values()])
    with torch.no_grad(), buffers_kept(whole), torch.random.fork_rng():
        return sum(len(objective(views).losses) for objective in objectives.values())


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """Undo in the end what a forward changes: running statistics, queues, the state of a balance."""
    kept = {name: buffer.clone() for name, buffer in module.named_buffers()}
    yield
    for name, buffer in module.named_buffers():
        buffer.copy_(kept[name])
