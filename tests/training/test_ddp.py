"""Of a vocabulary two processes send each other the rows in use, and have the gradients that one process has."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from mmexp.training import ddp

VOCABULARY, WIDTH = 5000, 4


class Words(nn.Module):
    """Two vocabularies between other weights."""

    def __init__(self):
        super().__init__()
        self.before = nn.Linear(WIDTH, WIDTH)
        self.words, self.others = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(VOCABULARY + 1, WIDTH)
        self.few = nn.Embedding(10, WIDTH)
        self.after = nn.Linear(WIDTH, 1)
        self.register_buffer("again", torch.ones(WIDTH), persistent=False)
        self.register_buffer("kept", torch.ones(WIDTH))

    def forward(self, ids, turned):
        first, second = (self.others, self.words) if turned else (self.words, self.others)
        seen = first(ids).tanh() + second(ids) if turned else first(ids) + second(ids).tanh()
        return self.after(self.before(seen + self.few(ids % 10)) * self.again).square().mean()


def losses(model, rows: str) -> list[Callable[[], torch.Tensor]]:
    """Return what each of two processes has to say, of ids of a few rows or of all; their graphs have orders of their own."""
    every = torch.arange(VOCABULARY) if rows == "all" else torch.tensor([3, 70, 70, 4999, 5, 3, 123, 8])
    return [partial(model, ids, turned) for turned, ids in enumerate(every.chunk(2))]


def rank(number: int, folder: Path, rows: str) -> None:
    """Be one of two processes: compute gradients by DDP twice, and tell them, and how many bytes went out in a step."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=2)
    torch.manual_seed(number)
    words = Words()
    ddp.send_rows(words)
    model = DistributedDataParallel(words, gradient_as_bucket_view=True)
    counts, all_reduce = [], distributed.all_reduce

    def counted(tensor, *args, **options):
        counts.append(tensor.numel() * tensor.element_size())
        return all_reduce(tensor, *args, **options)

    def bucket_counted(_, bucket):
        sent = counted(bucket.buffer().div_(2), async_op=True)
        return sent.get_future().then(lambda done: done.value()[0])

    model.register_comm_hook(None, bucket_counted)
    distributed.all_reduce = counted
    for _ in range(2):
        model.zero_grad()
        counts.clear()
        losses(model, rows)[number]().backward()
    sent = [name for name, _ in words.named_buffers() if name not in model.parameters_to_ignore]
    told = (sum(counts), sent, [parameter.grad for parameter in model.parameters()])
    if number == 0:
        torch.save(told, folder / "found.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("rows", ["few", "all"])
def test_two_processes_have_the_gradients_of_one(rows, tmp_path):
    multiprocessing.spawn(rank, (tmp_path, rows), nprocs=2)
    count, buffers, found = torch.load(tmp_path / "found.pt")
    torch.manual_seed(0)
    alone = Words()
    (sum(loss() for loss in losses(alone, rows)) / 2).backward()
    for parameter, gradient in zip(alone.parameters(), found, strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-5, atol=1e-8)
    whole, masks = 4 * sum(parameter.numel() for parameter in alone.parameters()), 2 * VOCABULARY + 1
    unused = 2 * VOCABULARY + 1 - 2 * 6
    assert count == (whole + masks if rows == "all" else whole - 4 * WIDTH * unused + masks)
    assert buffers == ["kept"]


def test_ddp_is_ours_and_other_strategies_are_lightnings():
    assert isinstance(ddp.strategy_of("ddp"), ddp.LeanDDP)
    assert ddp.strategy_of("auto") == "auto" and ddp.strategy_of("fsdp") == "fsdp"
