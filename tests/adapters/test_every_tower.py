"""Every adapter on every kind of tower: gradients exactly where they belong, or one plain line."""

import copy
import logging

import pytest
import torch
from torch import nn
from towers import KINDS, model_of, prepared, tower, two_steps

from mmexp.adapters.alignment import Alignment
from mmexp.adapters.bitfit import BitFit
from mmexp.adapters.bottleneck import Bottleneck
from mmexp.adapters.dora import DoRA
from mmexp.adapters.frozen import Frozen
from mmexp.adapters.full import Full
from mmexp.adapters.ia3 import IA3
from mmexp.adapters.last_k import LastK
from mmexp.adapters.lora import Lora
from mmexp.adapters.p_tuning import PTuning
from mmexp.adapters.prefix_tuning import PrefixTuning
from mmexp.adapters.prompt_tuning import PromptTuning
from mmexp.adapters.rslora import RsLora
from mmexp.build.adapting import put_on
from mmexp.errors import RequestError

ADAPTERS = {
    "full": Full(),
    "last_k": LastK(),
    "lora": Lora(2),
    "dora": DoRA(2),
    "rslora": RsLora(2),
    "ia3": IA3(),
    "bitfit": BitFit(),
    "bottleneck": Bottleneck(4),
    "prompt_tuning": PromptTuning(3),
    "p_tuning": PTuning(3, hidden=8),
    "prefix_tuning": PrefixTuning(3),
    "alignment": Alignment(),
}
VARIANTS = {
    "p_tuning lstm": PTuning(3, "lstm", 8),
    "prefix_tuning mlp": PrefixTuning(3, hidden=8),
    "alignment mlp": Alignment("mlp", 8),
}
MERGING = ("lora", "dora", "rslora", "ia3")
# What starts as the model that it adapts.
NEUTRAL = (*MERGING, "last_k", "bitfit", "bottleneck", "alignment", "alignment mlp")
FUSED, MAPS, NO_MLP = "fused attention", "maps or windows", "no blocks with MLPs"
NO_KEYS, NO_LAYER, NEVER, SIZES = (
    "layers of its own for keys",
    "no layer that this",
    "trained and never used",
    "must match",
)
REFUSED = {
    **{
        (kind, name): MAPS
        for kind in ("swin", "cnn", "convnext")
        for name in ("prompt_tuning", "p_tuning", "prefix_tuning")
    },
    **{(kind, "bottleneck"): NO_MLP for kind in ("cnn", "convnext", "gpt")},
    **{(f"open_clip_{which}", name): FUSED for which in ("image", "text") for name in ("dora", "ia3")},
    **{(kind, "prefix_tuning"): NO_KEYS for kind in ("open_clip_image", "open_clip_text", "gpt")},
    **{("gpt", name): NO_LAYER for name in MERGING},
    **{("eva", name): NEVER for name in MERGING},
    **{("eva", name): SIZES for name in ("prompt_tuning", "p_tuning", "prefix_tuning")},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a copy of a model of one tower, which is built once."""
    logging.disable(logging.WARNING)
    known = {}

    def copied(kind: str):
        if kind not in known:
            known[kind] = model_of(tower(kind, tmp_path_factory.mktemp(kind)))
        return copy.deepcopy(known[kind])

    yield copied
    logging.disable(logging.NOTSET)


def adapt(model, adapter) -> str:
    (modality,) = model.encoders
    put_on(model, {f"encoders.{modality}": adapter}, [f"encoders.{modality}"])
    return modality


def said(model) -> torch.Tensor:
    (modality,) = model.encoders
    with torch.no_grad():
        return model.eval().encode({modality: prepared(model.encoders[modality])})[modality].pooled


CASES = [(kind, name) for kind in KINDS for name in ADAPTERS] + [
    (k, n) for k in ("vit", "transformer") for n in VARIANTS
]


@pytest.mark.parametrize(("kind", "name"), CASES, ids=map(" ".join, CASES))
def test_gradients_are_exactly_where_they_belong(made, kind, name):
    model, adapter = made(kind), (ADAPTERS | VARIANTS)[name]
    names, before = set(model.state_dict()), said(model)
    if (kind, name) in REFUSED:
        with pytest.raises(RequestError, match=REFUSED[kind, name]) as refusal:
            adapt(model, adapter)
        line = str(refusal.value)
        assert "\n" not in line and line.startswith("adapter/") and "hoose " in line
        return
    modality = adapt(model, adapter)
    if name in NEUTRAL:
        torch.testing.assert_close(said(model), before, atol=1e-5, rtol=0)
    trained = {n for n, parameter in model.named_parameters() if parameter.requires_grad}
    resting = resting_names(model, trained)
    stored = {n: tensor.clone() for n, tensor in model.state_dict().items()}
    losses, moved = two_steps(model)
    assert moved == trained and trained
    after = model.state_dict()
    assert [n for n in resting if not torch.equal(stored[n], after[n])] == []
    assert all(torch.tensor(losses).isfinite())
    whole = said(model)
    assert not torch.allclose(whole, before, atol=1e-4), "two steps change what it says"
    adapter.merge(model.encoders[modality])
    torch.testing.assert_close(said(model), whole, atol=1e-5, rtol=0)
    assert name not in MERGING or set(model.state_dict()) == names
    assert name in ("full", "last_k", "bitfit", *MERGING) or set(model.state_dict()) > names


def resting_names(model, trained: set[str]) -> list[str]:
    """Return the names of all that is to stay bit-equal: what is not trained, without the statistics of norms that are."""
    learns = [n for n, m in model.named_modules() if hasattr(m, "running_mean") and f"{n}.weight" in trained]
    return [n for n in model.state_dict() if n not in trained and n.rpartition(".")[0] not in learns]


@pytest.mark.parametrize(
    "name", ["lora", "bottleneck", "prompt_tuning", "prefix_tuning", "prefix_tuning mlp", "p_tuning"]
)
@pytest.mark.parametrize("kind", ["vit", "transformer"])
def test_a_copy_of_an_adapted_tower_has_layers_of_its_own(made, kind, name):
    model = made(kind)
    adapt(model, (ADAPTERS | VARIANTS)[name])
    two_steps(model)
    before, other = said(model), copy.deepcopy(model)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in other.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    assert not torch.allclose(said(other), before, atol=1e-3)
    assert torch.equal(said(model), before)


def test_the_frozen_weights_of_a_fused_attention_are_the_same_tensors_after_a_step(made):
    model = made("open_clip_image")
    adapt(model, Lora(2))
    weights = {n: p.data_ptr() for n, p in model.named_parameters() if not p.requires_grad}
    two_steps(model)
    assert {n: p.data_ptr() for n, p in model.named_parameters() if not p.requires_grad} == weights


def test_frozen_trains_nothing(made):
    for kind in ("vit", "cnn", "transformer"):
        model = made(kind)
        adapt(model, Frozen())
        assert not any(parameter.requires_grad for parameter in model.parameters())


def opened(model) -> set[str]:
    return {n.removeprefix("encoders.") for n, p in model.named_parameters() if p.requires_grad}


def test_last_k_opens_blocks_from_the_end_and_the_norm_behind_them(made):
    for k, blocks in ((1, {"2"}), (2, {"1", "2"})):
        model = made("vit")
        adapt(model, LastK(k))
        assert {n.split(".")[3] for n in opened(model) if ".blocks." in n} == blocks
        assert {n for n in opened(model) if ".blocks." not in n} == {"image.model.norm.weight", "image.model.norm.bias"}
    model = made("swin")
    adapt(model, LastK(2))  # both blocks of the last of two stages
    assert {tuple(n.split(".")[3:6]) for n in opened(model) if "blocks" in n} == {
        ("1", "blocks", "0"),
        ("1", "blocks", "1"),
    }
    with pytest.raises(RequestError, match=r"adapter/text: k=3, and encoders\.text has 2 blocks"):
        adapt(made("transformer"), LastK(3))


def test_rslora_divides_by_the_root_of_the_rank(made):
    models = {}
    for adapter in (Lora(4, alpha=4), RsLora(4, alpha=4)):
        model = made("vit")
        adapt(model, adapter)
        layer = model.encoders["image"].model.blocks[0].attn.qkv
        models[type(adapter)] = layer.scaling["default"]
    assert models == {Lora: 1.0, RsLora: 2.0}


def test_prompts_shorten_texts_and_stand_behind_the_begin(made):
    model = made("transformer")
    encoder = model.encoders["text"]
    inputs = prepared(encoder)
    adapt(model, PromptTuning(3))
    assert encoder.context == 29
    seen = {}
    encoder.blocks[0].register_forward_pre_hook(lambda _, args: seen.update(mask=args[1]))
    encoded = model.eval().encode({"text": inputs})["text"]
    assert encoded.tokens.shape[:2] == inputs["ids"].shape and torch.equal(encoded.mask, inputs["mask"])
    assert seen["mask"].shape[1] == inputs["ids"].shape[1] + 3
    assert encoder.adapter["prompt_tuning"].first == 1
    with pytest.raises(RequestError, match="20 prompts leave no room for words"):
        adapt(made("transformer"), PromptTuning(20))


def test_a_prefix_of_our_own_block_is_more_keys_and_values():
    """Against attention written out with the learned keys and values in front."""
    from stand_ins import sounds_of, tiny_audio

    torch.manual_seed(0)
    plain = tiny_audio().eval()
    encoder = copy.deepcopy(plain)
    PrefixTuning(3, spread=1.0).apply("encoders.audio", encoder)
    made = encoder.adapter["prefix_tuning"].encoder(torch.arange(3)).view(3, 1, 2, -1)[:, 0]
    inputs, block, given = sounds_of(4), plain.blocks[0], {}
    block.register_forward_pre_hook(lambda _, args: given.update(tokens=args[0], mask=args[1], places=args[2]))
    plain(inputs)
    tokens, mask, places = given["tokens"], given["mask"], given["places"]
    rows = torch.zeros(mask.numel(), tokens.shape[1]).index_copy(0, places, tokens).view(*mask.shape, -1)
    q, k, v = block.qkv(block.norm1(rows)).chunk(3, -1)
    k, v = (torch.cat([made[:, i].expand(len(rows), -1, -1), x], 1) for i, x in enumerate((k, v)))
    q, k, v = (x.unflatten(-1, (block.heads, -1)).transpose(1, 2) for x in (q, k, v))
    allowed = torch.cat([torch.ones(len(rows), 3, dtype=torch.bool), mask], 1)[:, None, None]
    seen = nn.functional.scaled_dot_product_attention(q, k, v, allowed).transpose(1, 2).flatten(2)
    tokens = rows + block.proj(seen)
    tokens = tokens + block.fc2(nn.functional.gelu(block.fc1(block.norm2(tokens))))
    wanted = plain.norm(tokens) * mask[..., None]
    with torch.no_grad():
        torch.testing.assert_close(encoder.eval()(inputs).tokens, wanted, atol=1e-5, rtol=1e-5)
