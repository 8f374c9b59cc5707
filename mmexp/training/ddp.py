"""DDP with little to send: on CPUs the gradient of a vocabulary travels as the rows of the words in use."""

from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

_ROWS = 4096  # the least of a weight that is looked at
_IN_USE = 0.25  # of all rows, up to which they are sent alone


class LeanDDP(DDPStrategy):
    """Lightning's, whose gradients are views of what is sent, so that none is there twice."""

    def __init__(self) -> None:
        super().__init__(gradient_as_bucket_view=True)

    def configure_ddp(self) -> None:
        """Keep vocabularies from DDP on CPUs; GPUs have sent one sooner than looked through it."""
        if self.root_device.type == "cpu":
            send_rows(self.model)
        super().configure_ddp()


def strategy_of(name: str) -> DDPStrategy | str:
    """Return what the trainer is told of a strategy: `ddp` is ours, all others Lightning's."""
    return LeanDDP() if name == "ddp" else name


def send_rows(model: Any) -> None:
    """Have a model, before `DistributedDataParallel` wraps it, send of large embeddings the rows in use.

    DDP would copy their whole gradients into what it sends. Nor does it send, at each step, buffers that no checkpoint has.
    """
    tables = dict.fromkeys(part.weight for part in model.modules() if isinstance(part, nn.Embedding))
    words = [table for table in tables if len(table) >= _ROWS and table.requires_grad]
    _Vocabularies(words)
    kept = model.state_dict().keys()
    names = [name for name, weight in model.named_parameters(remove_duplicate=False) if any(weight is w for w in words)]
    names += [name for name, _ in model.named_buffers() if name not in kept]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)


class _Vocabularies:
    """Takes the mean of the gradients of `words` over processes at the end of each backward.

    Not as soon as one is there: where rows lack a part, processes go back through their graphs in orders of their own.
    """

    def __init__(self, words: list[Tensor]):
        self.words = words
        self._asked = False
        for word in words:
            distributed.broadcast(word.detach(), 0)
            word.register_post_accumulate_grad_hook(self._ask)

    def _ask(self, _: Tensor) -> None:
        if not self._asked:
            torch.autograd.Variable._execution_engine.queue_callback(self._reduce)
        self._asked = True

    def _reduce(self) -> None:
        self._asked = False
        for word in self.words:
            if word.grad is not None:
                average(word.grad)


def average(gradient: Tensor) -> None:
    """Make `gradient (V, D)` the mean over all processes; where few rows are in use they are sent alone."""
    # Both together take a quarter of the time of `any`.
    rows = ((gradient.amax(1) != 0) | (gradient.amin(1) != 0)).byte()
    distributed.all_reduce(rows, distributed.ReduceOp.MAX)
    used = rows.nonzero().squeeze(1)
    few = len(used) <= _IN_USE * len(rows)
    sent = (gradient[used] if few else gradient).div_(distributed.get_world_size())
    distributed.all_reduce(sent)
    if few:
        gradient.index_copy_(0, used, sent)
