"""What holds for every fusion: sizes, any number of modalities, missing ones, gradients, and the objectives that use it."""

import pytest
import torch
from fusion.made_up import DIMS, FUSIONS, KEEPING, encoded_of, made, patterns, some, without
from stand_ins import TinyImage, TinyText, batch_of, views_of

from mmexp.errors import RequestError
from mmexp.model import Model
from mmexp.objectives.caption import Caption
from mmexp.objectives.classify import Classify
from mmexp.objectives.cross_masked import CrossMasked
from mmexp.objectives.masked import Masked
from mmexp.objectives.matching import Matching
from mmexp.signatures import signature
from mmexp.types import Encoded

every = pytest.mark.parametrize("name", FUSIONS)


def same(left: Encoded, right: Encoded) -> None:
    torch.testing.assert_close(left.pooled, right.pooled, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(left.tokens[left.mask], right.tokens[right.mask], rtol=1e-5, atol=1e-5)


@every
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_any_number_of_modalities(name, modalities):
    dims = some(modalities)
    fusion, encoded = made(name, dims), encoded_of(dims)
    fused = fusion(encoded)
    assert fused.pooled.shape == (7, fusion.dim) and fused.present is None
    assert fused.mask.shape == fused.tokens.shape[:2] and fused.tokens.shape[2] == fusion.dim
    assert fused.pooled.std(0).min() > 0, "rows differ"
    if name in KEEPING:
        assert sorted(fused.parts) == sorted(dims)
        places = sorted(i for part in fused.parts.values() for i in range(fused.tokens.shape[1])[part])
        assert places == list(range(fused.tokens.shape[1]))
        for modality, one in encoded.items():
            assert torch.equal(fused.mask[:, fused.parts[modality]], one.mask)


@every
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_gradients_reach_every_parameter(name, modalities):
    fusion, encoded = made(name, some(modalities)), encoded_of(some(modalities))
    weight = torch.randn(7, fusion.dim, generator=torch.Generator().manual_seed(1))
    (fusion(encoded).pooled * weight).sum().backward()
    for parameter_name, parameter in fusion.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 1e-7, parameter_name


@every
@pytest.mark.parametrize("missing", [{"audio"}, {"image"}, {"audio", "image"}])
def test_a_modality_may_be_missing_from_the_whole_batch(name, missing):
    fusion, encoded = made(name), encoded_of()
    there = {modality: one for modality, one in encoded.items() if modality not in missing}
    nobody = {modality: torch.full((7,), modality not in missing) for modality in DIMS}
    fused = fusion(there)
    same(fused, fusion(without(encoded, nobody)))
    assert torch.isfinite(fused.pooled).all() and not torch.allclose(fused.pooled, fusion(encoded).pooled)


@every
def test_a_row_that_lacks_something_is_as_in_a_batch_that_lacks_it(name):
    fusion, encoded, present = made(name), encoded_of(), patterns()
    mixed = fusion(without(encoded, present))
    for row in range(7):
        one = {modality: e[torch.tensor([row])] for modality, e in encoded.items() if present[modality][row]}
        same(mixed[torch.tensor([row])], fusion(one))


@every
def test_rows_that_lack_nothing_are_as_in_a_batch_that_lacks_nothing(name):
    fusion, encoded = made(name), encoded_of()
    every_row = {modality: torch.ones(7, dtype=torch.bool) for modality in DIMS}
    whole, told = fusion(encoded), fusion(without(encoded, every_row))
    assert torch.equal(whole.pooled, told.pooled) and torch.equal(whole.tokens, told.tokens)


@every
def test_what_stands_in_the_place_of_a_missing_modality_is_not_read(name):
    fusion, encoded, present = made(name), encoded_of(), patterns()
    weight, results = torch.randn(7, fusion.dim, generator=torch.Generator().manual_seed(1)), []
    for fill in (0.0, 9.0):
        fusion.zero_grad()
        fused = fusion(without(encoded, present, fill))
        (fused.pooled * weight).sum().backward()
        results.append([fused.pooled.detach(), *(p.grad.clone() for p in fusion.parameters())])
    for zeros, nines in zip(*results, strict=True):
        torch.testing.assert_close(zeros, nines, rtol=1e-5, atol=1e-6)


@every
def test_a_row_of_nothing_is_finite_and_changes_no_other(name):
    fusion, encoded = made(name), {m: e for m, e in encoded_of().items() if m != "audio"}
    present = {modality: torch.arange(7) != 2 for modality in encoded}
    fused = fusion(without(encoded, present))
    rest = torch.tensor([0, 1, 3, 4, 5, 6])
    same(fused[rest], fusion({modality: e[rest] for modality, e in encoded.items()}))
    fused.pooled.square().sum().backward()
    assert torch.isfinite(fused.pooled).all()
    assert all(torch.isfinite(p.grad).all() for p in fusion.parameters() if p.grad is not None)


@every
def test_bf16_is_fp32_but_for_its_rounding(name):
    fusion, lacking = made(name), without(encoded_of(), patterns())
    whole = fusion(lacking).pooled
    with torch.autocast("cpu", torch.bfloat16):
        rounded = fusion(lacking).pooled
    rounded.float().square().sum().backward()
    assert (whole - rounded).abs().max() < 0.05 * whole.abs().max()
    assert all(torch.isfinite(p.grad).all() for p in fusion.parameters())


@every
def test_training_without_dropout_draws_no_number(name):
    fusion, encoded = made(name).train(), encoded_of()
    before = torch.get_rng_state()
    fused = fusion(encoded).pooled
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(fused, fusion.eval()(encoded).pooled)


@every
def test_what_a_fusion_says_of_itself_is_so(name):
    fusion, encoded = made(name), encoded_of()
    told = signature(f"{type(fusion).__module__}.{type(fusion).__name__}").constants
    assert bool(told.get("keeps_tokens")) == (name in KEEPING)
    blind = {m: Encoded(e.tokens[:, :0], e.pooled, e.mask[:, :0]) for m, e in encoded.items()}
    deaf = {m: Encoded(e.tokens, torch.zeros_like(e.pooled), e.mask) for m, e in encoded.items()}
    # Where poolings alone are kept, tokens must not be wanted; the others go by the tokens alone.
    changed = blind if told.get("reads_pooled") else deaf
    assert torch.equal(fusion(encoded).pooled, fusion(changed).pooled)


@pytest.mark.parametrize("name", [n for n in FUSIONS if n not in ("concat", "product")])
def test_lora_finds_layers_to_adapt(name):
    from mmexp.adapters.lora import Lora

    model = torch.nn.ModuleDict({"encoders": torch.nn.ModuleDict(), "fusion": made(name)})
    before = model["fusion"](encoded_of()).pooled
    Lora(rank=2).apply("fusion", model["fusion"])
    torch.testing.assert_close(model["fusion"](encoded_of()).pooled, before)
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert trained and all("lora" in n for n in trained)


def objectives_of(name: str) -> list:
    return [Matching, Classify, Masked, *([CrossMasked] if name in KEEPING else [])]


@every
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_every_objective_trains_it(name, precision):
    model = Model({"image": TinyImage(), "text": TinyText()}, made(name, {"image": 16, "text": 12}))
    objectives = [make(model.shape(3)) for make in objectives_of(name)]
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        views = views_of(model, batch_of())
        losses = {key: loss for o in objectives for key, loss in o(views).losses.items()}
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    for parameter_name, parameter in model.fusion.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), parameter_name


@every
def test_it_can_be_put_into_words(name):
    """What it says of the picture alone: the text is what is written."""
    model = Model({"image": TinyImage(), "text": TinyText()}, made(name, {"image": 16, "text": 12}))
    loss = Caption(model.shape(), source="fused", dim=12)(views_of(model, batch_of())).losses["caption"]
    loss.backward()
    assert loss > 0 and next(iter(model.fusion.parameters())).grad.abs().sum() > 0


@pytest.mark.parametrize("name", [*KEEPING, "graph"])
def test_heads_that_do_not_divide_the_width_are_refused(name):
    with pytest.raises(RequestError, match=r"fusion\.dim=12 does not divide into fusion\.heads=5"):
        FUSIONS[name](DIMS, heads=5)
