"""Of a vocabulary two processes send each other the rows in use, and have the gradients that one process has."""

from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from mmexp.training import ddp

VOCABULARY, WIDTH = 5000, 4


class Words(nn.Module):
    """A vocabulary between other weights, in one bucket with them."""

    def __init__(self):
        super().__init__()
        self.before = nn.Linear(WIDTH, WIDTH)
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.few = nn.Embedding(10, WIDTH)
        self.after = nn.Linear(WIDTH, 1)

    def forward(self, ids):
        return self.after(self.before(self.words(ids) + self.few(ids % 10))).square().mean()


def losses(model, rows: str) -> list[torch.Tensor]:
    """Return what each of two processes has to say, of ids of a few rows or of all."""
    every = torch.arange(VOCABULARY) if rows == "all" else torch.tensor([3, 70, 70, 4999, 5, 3, 123, 8])
    return [model(ids) for ids in every.chunk(2)]


def rank(number: int, folder: Path, rows: str) -> None:
    """Be one of two processes: compute gradients by DDP twice, and tell them, and how many numbers went out in a step."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=number, world_size=2)
    torch.manual_seed(0)
    model = DistributedDataParallel(Words(), gradient_as_bucket_view=True)
    ddp.send_rows(model)
    counts, all_reduce = [], distributed.all_reduce

    def counted(tensor, *args, **options):
        counts.append(tensor.numel() * tensor.element_size())
        return all_reduce(tensor, *args, **options)

    for _ in range(2):
        model.zero_grad()
        distributed.all_reduce = counted
        counts.clear()
        losses(model, rows)[number].backward()
        distributed.all_reduce = all_reduce
    if number == 0:
        torch.save((sum(counts), [parameter.grad for parameter in model.parameters()]), folder / "found.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("rows", ["few", "all"])
def test_two_processes_have_the_gradients_of_one(rows, tmp_path):
    multiprocessing.spawn(rank, (tmp_path, rows), nprocs=2)
    count, found = torch.load(tmp_path / "found.pt")
    torch.manual_seed(0)
    alone = Words()
    (sum(losses(alone, rows)) / 2).backward()
    for parameter, gradient in zip(alone.parameters(), found, strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-5, atol=1e-8)
    whole = 4 * sum(parameter.numel() for parameter in alone.parameters())
    assert count == (whole + VOCABULARY if rows == "all" else whole - 4 * WIDTH * (VOCABULARY - 6) + VOCABULARY)


def test_ddp_is_ours_and_other_strategies_are_lightnings():
    assert isinstance(ddp.strategy_of("ddp"), ddp.LeanDDP)
    assert ddp.strategy_of("auto") == "auto" and ddp.strategy_of("fsdp") == "fsdp"
