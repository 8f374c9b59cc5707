"""Dropout with cheaper draws is dropout."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmexp.dropout import Dropout, dropout, hasten


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
def test_the_share_that_is_left_out_is_the_rate_and_the_mean_stays(rate, dtype):
    torch.manual_seed(0)
    values = torch.ones(1001, 999, dtype=dtype)
    found = dropout(values, rate)
    assert (found == 0).float().mean().item() == pytest.approx(rate, abs=0.003)
    assert set(found.unique().tolist()) == {0.0, torch.tensor(1 / (1 - rate), dtype=dtype).item()}
    # No place of the four that share a draw is favoured, and neighbours are independent.
    gone = (found == 0).float().flatten()[: 4 * 249_000].view(-1, 4)
    assert gone.mean(0).tolist() == pytest.approx([rate] * 4, abs=0.005)
    assert abs(torch.corrcoef(gone.T) - torch.eye(4)).max() < 0.01


def test_it_is_a_function_of_torchs_generator_and_its_gradient_is_the_mask():
    values = torch.randn(7, 5, requires_grad=True)
    torch.manual_seed(3)
    first = dropout(values, 0.4)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(values, 0.4))
    assert not torch.equal(first, dropout(values, 0.4))
    first.sum().backward()
    assert torch.equal(values.grad != 0, first != 0)
    assert dropout(values, 0.4, training=False) is values and dropout(values, 0.0) is values
    assert torch.equal(dropout(values, 1.0), torch.zeros(7, 5))


def test_torchs_layers_become_ours_and_others_stay():
    model = nn.Sequential(nn.Dropout(0.3), nn.Dropout(0.3, inplace=True), nn.Dropout2d(0.3))
    hasten(model)
    assert [type(part) for part in model] == [Dropout, nn.Dropout, nn.Dropout2d]
    model.eval()
    assert torch.equal(model(torch.ones(2, 3, 4, 4)), F.dropout(torch.ones(2, 3, 4, 4), 0.3, training=False))
