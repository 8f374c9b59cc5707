"""Rows are chosen as by indexing, with gradients that do not depend on the order in which threads add."""

import pytest
import torch

from mmexp.rows import look_up, take


@pytest.mark.parametrize(
    "rows",
    [
        torch.tensor([2, 0, 2, 2]),
        torch.tensor([[1, 1], [0, 3]]),
        torch.zeros(0, dtype=torch.long),
        torch.tensor([True, False, True, False]),
        torch.rand(4, 5, generator=torch.Generator().manual_seed(0)) > 0.5,
        torch.zeros(4, 5, dtype=torch.bool),
        slice(1, 3),
    ],
    ids=["numbers", "more axes", "none", "mask", "mask of two axes", "empty mask", "slice"],
)
def test_rows_and_their_gradients_are_those_of_indexing(rows):
    found = []
    for choose in (take, lambda tensor, rows: tensor[rows]):
        tensor = torch.arange(60.0).view(4, 5, 3).requires_grad_()
        chosen = choose(tensor, rows)
        (chosen * torch.arange(chosen.numel()).view_as(chosen)).sum().backward()
        found.append((chosen, tensor.grad))
    for ours, theirs in zip(*found, strict=True):
        assert ours.shape == theirs.shape and torch.equal(ours, theirs)


@pytest.mark.parametrize("choose", [take, lambda table, index: look_up(table, index)], ids=["take", "look_up"])
def test_gradients_of_rows_that_come_many_times_repeat_with_two_threads(choose):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        generator = torch.Generator().manual_seed(0)
        index = torch.randint(0, 7, (20_000,), generator=generator)
        gradient = torch.randn(20_000, 32, generator=generator)
        found = []
        for _ in range(5):
            table = torch.zeros(7, 32, requires_grad=True)
            choose(table, index).backward(gradient)
            found.append(table.grad)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(found[0], other) for other in found[1:])
    right = torch.zeros(7, 32, dtype=torch.double).index_add_(0, index, gradient.double())
    torch.testing.assert_close(found[0].double(), right, rtol=1e-3, atol=1e-3)
