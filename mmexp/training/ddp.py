"""DDP with little to send: on CPUs the gradient of a vocabulary travels as the rows of the words in use."""

from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed, nn

_ROWS = 4096  # the least of a weight that is looked at
_IN_USE = 0.25  # of all rows, up to which they are sent alone


class LeanDDP(DDPStrategy):
    """Lightning's, whose gradients are views of what is sent, so that none is there twice."""

    def __init__(self) -> None:
        super().__init__(gradient_as_bucket_view=True)

    def configure_ddp(self) -> None:
        """Tell DDP how to reduce on CPUs; GPUs have sent a vocabulary sooner than looked through it."""
        super().configure_ddp()
        if self.root_device.type == "cpu":
            send_rows(self.model)


def send_rows(wrapped: Any) -> None:
    """Have a `DistributedDataParallel` send of large embeddings the rows in use."""
    words = (part.weight for part in wrapped.modules() if isinstance(part, nn.Embedding))
    wrapped.register_comm_hook({word for word in words if len(word) >= _ROWS}, reduce)


def strategy_of(name: str) -> DDPStrategy | str:
    """Return what the trainer is told of a strategy: `ddp` is ours, all others Lightning's."""
    return LeanDDP() if name == "ddp" else name


def reduce(words: set[nn.Parameter], bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
    """Return what will be the mean of a bucket of gradients over all processes; the weights in `words` have few rows in use."""
    buffer = bucket.buffer()
    waiting: list[torch.futures.Future[Any]] = []
    begin = end = 0
    for weight, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True):
        if weight in words and (used := in_use(gradient)) is not None:
            waiting += [_mean(buffer[begin:end])] if end > begin else []
            waiting.append(_mean_rows(gradient, used))
            begin = end + gradient.numel()
        end += gradient.numel()
    waiting += [_mean(buffer[begin:end])] if end > begin else []
    return torch.futures.collect_all(waiting).then(lambda _: buffer)


def in_use(gradient: Tensor) -> Tensor | None:
    """Return the rows (R,) of `gradient (V, D)` that are not zero in some process; None where they are many."""
    # Both together take a quarter of the time of `any`.
    rows = ((gradient.amax(1) != 0) | (gradient.amin(1) != 0)).byte()
    distributed.all_reduce(rows, distributed.ReduceOp.MAX)
    used = rows.nonzero().squeeze(1)
    return used if len(used) <= _IN_USE * len(rows) else None


def _mean(part: Tensor) -> torch.futures.Future[Any]:
    return distributed.all_reduce(part.div_(distributed.get_world_size()), async_op=True).get_future()


def _mean_rows(gradient: Tensor, used: Tensor) -> torch.futures.Future[Any]:
    rows = gradient[used]
    return _mean(rows).then(lambda _: gradient.index_copy_(0, used, rows))
