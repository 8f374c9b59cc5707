"""The mathematics of position encodings: formulas of the papers, timm's tables, and scores that know differences alone."""

from math import cos, sin

import pytest
import torch
from torch import nn

from mmexp.attention import attention
from mmexp.errors import RequestError
from mmexp.positions import NOWHERE, Relation, RelativeBias, Rotary, added, buckets, sincos2d, sine
from mmexp.transformer_block import Block


def scores(rotary, query, key, places):
    """Return the products (N, N) of one query and one key, as if they stood at each of the places."""
    relation = rotary(places)
    here = [vector.expand(1, 1, places, -1) for vector in (query, key)]
    turned = [relation.turn(vector)[0, 0] for vector in here]
    return turned[0] @ turned[1].T


def test_sine_is_the_formula_of_the_paper():
    table = sine(50, 8)
    for place, i in ((0, 0), (3, 1), (17, 2), (49, 3)):
        angle = place / 10000 ** (2 * i / 8)
        assert table[place, 2 * i].item() == pytest.approx(sin(angle), abs=1e-5)
        assert table[place, 2 * i + 1].item() == pytest.approx(cos(angle), abs=1e-5)


def test_sincos2d_is_timms_table_row_by_row():
    from timm.layers import build_sincos2d_pos_embed

    table = sincos2d((3, 5), 16)
    torch.testing.assert_close(table, build_sincos2d_pos_embed([3, 5], 16))
    row, column, band = 2, 4, 3
    angles = [place / 10000 ** (band / 4) for place in (row, column)]
    expected = [sin(angles[0]), sin(angles[1]), cos(angles[0]), cos(angles[1])]
    assert table[row * 5 + column, band::4].tolist() == pytest.approx(expected, abs=1e-5)


def test_what_is_added_is_scaled_and_a_learned_table_is_a_parameter():
    assert torch.equal(added("sine", (7,), 6, 0.3), 0.3 * sine(7, 6))
    assert isinstance(added("learned", (2, 3), 6), nn.Parameter)
    assert added("learned", (2, 3), 6).shape == (6, 6)
    assert added("rotary", (7,), 6) is None and added("relative", (7,), 6) is None


def test_rotary_scores_of_words_depend_on_the_difference_alone():
    torch.manual_seed(0)
    table = scores(Rotary((40,), 16), *torch.randn(2, 16), 40)
    for way in (-30, -1, 0, 2, 17):
        along = table.diagonal(way)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-4, rtol=1e-4)
    assert table[0].std() > 0.1, "and differ with it"


def test_rotary_scores_on_a_grid_depend_on_the_offset_alone():
    torch.manual_seed(0)
    table = scores(Rotary((4, 6), 16), *torch.randn(2, 16), 24).view(4, 6, 4, 6)
    for row, column in ((0, 0), (1, 3), (2, 1)):
        torch.testing.assert_close(table[row, column, row + 1, column + 2], table[0, 0, 1, 2], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(table[row + 1, column, row, column + 2], table[1, 0, 0, 2], atol=1e-4, rtol=1e-4)
    assert len(set(table[1, 2].flatten().tolist())) == 24
    assert (table[0, 0, 1, 2] - table[0, 0, 2, 1]).abs() > 1e-2, "rows are not columns"


def test_rotary_is_the_formula_of_the_paper_and_keeps_lengths():
    vector = torch.randn(1, 1, 1, 8).expand(1, 1, 9, 8)
    turned = Rotary((9,), 8)(9).turn(vector)
    angle = 5 / 10000 ** (2 / 8)
    x, y = vector[0, 0, 5, 2:4].tolist()
    expected = [x * cos(angle) - y * sin(angle), x * sin(angle) + y * cos(angle)]
    assert turned[0, 0, 5, 2:4].tolist() == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(turned.norm(dim=-1), vector.norm(dim=-1))
    assert torch.equal(turned[..., :1, :], vector[..., :1, :]), "place 0 is not turned"


def test_rotary_on_a_grid_is_timms():
    from timm.layers import RotaryEmbeddingCat, apply_rot_embed_cat

    theirs = RotaryEmbeddingCat(16, in_pixels=False, feat_shape=[3, 5]).get_embed()
    relation = Rotary((3, 5), 16)(15)
    torch.testing.assert_close(relation.rotation, theirs)
    heads = torch.randn(2, 3, 15, 16)
    torch.testing.assert_close(relation.turn(heads), apply_rot_embed_cat(heads, theirs))


def test_the_buckets_of_words_are_t5s():
    from transformers.models.t5.modeling_t5 import T5Attention

    way = torch.arange(200)[None] - torch.arange(200)[:, None]
    theirs = T5Attention._relative_position_bucket(way, bidirectional=True, num_buckets=32, max_distance=128)
    assert torch.equal(buckets(200), theirs)


def test_a_relative_bias_depends_on_the_offset_alone():
    torch.manual_seed(0)
    words = RelativeBias((20,), 2)(12).bias
    assert words.shape == (2, 12, 12)
    assert torch.equal(words[:, 0, 3], words[:, 5, 8]) and not torch.equal(words[:, 0, 3], words[:, 3, 0])
    grid = RelativeBias((3, 5), 2)(15).bias.view(2, 3, 5, 3, 5)
    assert torch.equal(grid[:, 0, 1, 1, 3], grid[:, 1, 2, 2, 4])
    assert len({grid[0, 1, 2, row, column].item() for row in range(3) for column in range(5)}) == 15


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bias_is_added_to_the_scores_in_both_ways_of_attention(dtype):
    query, key, value = torch.randn(3, 2, 3, 7, 16).unbind()
    mask, bias = torch.arange(7) < torch.tensor([[7], [4]]), torch.randn(3, 7, 7, requires_grad=True)
    scores = query @ key.transpose(-1, -2) / 4 + bias
    expected = scores.masked_fill(~mask[:, None, None], float("-inf")).softmax(-1) @ value
    got = attention(query.to(dtype), key.to(dtype), value.to(dtype), mask, bias)
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 0.08}[dtype]
    torch.testing.assert_close(got.float(), expected, atol=tolerance, rtol=tolerance)
    got.float().sum().backward()
    assert bias.grad is not None and bias.grad.abs().max() > 0


def test_a_block_without_positions_does_not_see_order_and_with_them_does():
    torch.manual_seed(0)
    block, tokens, mask = Block(12, 3, 1), torch.randn(5, 12), torch.ones(1, 5, dtype=torch.bool)
    order, places = torch.tensor([3, 1, 4, 0, 2]), torch.arange(5)

    def moved(relation: Relation) -> float:
        with torch.no_grad():
            apart = block(tokens[order], mask, places, relation) - block(tokens, mask, places, relation)[order]
        return apart.abs().max().item()

    assert moved(NOWHERE) < 1e-5
    assert moved(Rotary((5,), 4)(5)) > 1e-4
    assert moved(RelativeBias((5,), 3)(5)) > 1e-4


def test_no_dropout_draws_nothing():
    block, mask = Block(12, 3, 1, dropout=0.0).train(), torch.ones(1, 5, dtype=torch.bool)
    before = torch.get_rng_state()
    block(torch.zeros(5, 12), mask, torch.arange(5))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Rotary((9,), 3), "positions=rotary: the 3 channels of a head must be divisible by 2"),
        (lambda: Rotary((3, 3), 6), "positions=rotary: the 6 channels of a head must be divisible by 4"),
        (lambda: sine(9, 5), "positions=sine: dim=5 must be divisible by 2"),
        (lambda: sincos2d((3, 3), 6), "positions=sincos2d: dim=6 must be divisible by 4"),
    ],
)
def test_widths_that_do_not_divide(wrong, said):
    with pytest.raises(RequestError, match=said):
        wrong()
