"""Plain products say what torch's fused attention says, and so do the towers of other libraries that run by them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmexp import attention
from mmexp.attention import SelfAttention, fast_attention, fasten
from mmexp.plain_attention import plain_attention

ROWS, HEADS, QUERIES, KEYS, WIDTH = 3, 4, 5, 7, 8


def masks() -> dict[str, dict]:
    torch.manual_seed(1)
    seen = torch.rand(ROWS, 1, QUERIES, KEYS) > 0.4
    seen[..., 0] = True
    return {
        "none": {},
        "rows": {"attn_mask": seen},
        "keys": {"attn_mask": seen[:, :, :1]},
        "heads": {"attn_mask": torch.randn(HEADS, QUERIES, KEYS)},
        "all": {"attn_mask": torch.randn(QUERIES, KEYS)},
        "causal": {"is_causal": True},
        "scale": {"scale": 0.3},
    }


@pytest.mark.parametrize("name", list(masks()))
def test_plain_products_are_the_fused_attention(name):
    told = masks()[name]
    torch.manual_seed(0)
    # As the projection of tokens lays them out: heads are no neighbours in memory.
    query, key, value = (torch.randn(ROWS, n, HEADS, WIDTH).transpose(1, 2) for n in (QUERIES, KEYS, KEYS))
    found = []
    for attend in (plain_attention, F.scaled_dot_product_attention):
        inputs = [t.clone().requires_grad_() for t in (query, key, value)]
        seen = attend(*inputs, **told)
        seen.square().sum().backward()
        found.append([seen, *(t.grad for t in inputs)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("shape", [(HEADS, QUERIES, KEYS), (1, KEYS), (ROWS, HEADS, QUERIES, KEYS)])
def test_what_is_added_to_scores_is_trained(shape):
    torch.manual_seed(0)
    query, key, value = (torch.randn(ROWS, HEADS, n, WIDTH) for n in (QUERIES, KEYS, KEYS))
    gradients = []
    for attend in (plain_attention, F.scaled_dot_product_attention):
        bias = torch.arange(torch.Size(shape).numel()).view(shape).sin().requires_grad_()
        attend(query, key, value, attn_mask=bias.expand(ROWS, HEADS, QUERIES, KEYS)).square().sum().backward()
        gradients.append(bias.grad)
    torch.testing.assert_close(*gradients)


def test_autocast_has_its_precision_in_products_of_floats():
    found = []
    for attend in (plain_attention, F.scaled_dot_product_attention):
        torch.manual_seed(0)
        query, key, value = inputs = [torch.randn(2, 2, 5, 8, requires_grad=True) for _ in range(3)]
        with torch.autocast("cpu", torch.bfloat16):
            seen = attend(query, key, value)
        assert seen.dtype == torch.bfloat16
        seen.float().square().sum().backward()
        found.append([seen, *(t.grad for t in inputs)])
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05)


def test_queries_may_share_keys():
    query, key, value = torch.randn(2, 4, 5, 8), *torch.randn(2, 2, 2, 6, 8)
    theirs = F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    torch.testing.assert_close(plain_attention(query, key, value, enable_gqa=True), theirs)


def test_dropout_is_of_the_shares():
    torch.manual_seed(0)
    value = torch.ones(2, 1, 400, 1)
    seen = plain_attention(torch.zeros(2, 1, 1, 8), torch.zeros(2, 1, 400, 8), value, dropout_p=0.5)
    assert seen.mean() == pytest.approx(1, abs=0.2) and (seen != 1).all()


@pytest.mark.parametrize("slow", [True, False])
@pytest.mark.parametrize("mask", ["none", "all", "heads", "truth"])
def test_a_self_attention_is_torchs(mask, slow, monkeypatch):
    monkeypatch.setattr(attention, "slow_when_fused", lambda *_: slow)
    torch.manual_seed(0)
    shape = {"heads": (ROWS * HEADS, QUERIES, QUERIES)}.get(mask, (QUERIES, QUERIES))
    scores = torch.randn(shape).triu(1) if mask == "truth" else torch.randn(shape)
    told = {"need_weights": False, "attn_mask": {"none": None, "truth": scores != 0}.get(mask, scores)}
    layer = nn.MultiheadAttention(HEADS * WIDTH, HEADS, batch_first=True)
    nn.init.normal_(layer.in_proj_bias)
    tokens, found = torch.randn(ROWS, QUERIES, HEADS * WIDTH), []
    names = list(layer.state_dict())
    for kind in (nn.MultiheadAttention, SelfAttention):
        assert type(layer) is kind
        layer.zero_grad()
        seen = layer(tokens, tokens, tokens, **told)[0]
        seen.square().sum().backward()
        found.append([seen, *(p.grad for p in layer.parameters())])
        fasten(nn.Sequential(layer))
    assert list(layer.state_dict()) == names
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=3e-5)


def test_torchs_function_is_back_afterwards():
    before = F.scaled_dot_product_attention
    with fast_attention(torch.device("cpu"), torch.bfloat16):
        assert F.scaled_dot_product_attention is plain_attention
    assert F.scaled_dot_product_attention is before
    with fast_attention(torch.device("meta"), torch.float32):
        assert F.scaled_dot_product_attention is before


def test_in_fp32_the_fused_one_stays_where_nothing_is_dropped():
    queries = torch.randn(2, 3, 5, 8)
    fused = F.scaled_dot_product_attention(queries, queries, queries)
    with fast_attention(torch.device("cpu"), torch.float32):
        assert torch.equal(F.scaled_dot_product_attention(queries, queries, queries), fused)
        torch.manual_seed(0)
        dropped = F.scaled_dot_product_attention(queries, queries, queries, dropout_p=0.5)
    torch.manual_seed(0)
    assert torch.equal(dropped, plain_attention(queries, queries, queries, dropout_p=0.5))
    assert not torch.allclose(dropped, fused)
