"""What lies below the lowest trained block of a tower: found on every kind, and gone on from to the same encodings."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from towers import KINDS, model_of, prepared, tower

from mmexp.adapters.bitfit import BitFit
from mmexp.adapters.last_k import LastK
from mmexp.adapters.lora import Lora
from mmexp.adapters.prompt_tuning import PromptTuning
from mmexp.build.adapting import put_on
from mmexp.caching import fingerprint
from mmexp.errors import RequestError
from mmexp.frozen_parts import FrozenPart
from mmexp.prefix import prefix_of


def adapted(kind, folder, adapter):
    model = model_of(tower(kind, folder))
    (modality,) = model.encoders
    put_on(model, {f"encoders.{modality}": adapter}, [f"encoders.{modality}"])
    return model, modality


def kept_batch(model, modality, batch, prefix):
    """Return the batch as the loader hands it out of what is kept: without the rows' own pictures."""
    with torch.no_grad():
        kept = FrozenPart(modality, model.encoders[modality], prefix=prefix)({modality: batch})
    part = {} if modality == "image" else {modality: batch}
    return {**part, "encoded": {modality: kept}}


@pytest.mark.parametrize("adapter", [LastK(), Lora(2, last=1)], ids=["last_k", "lora"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_tower_goes_on_from_what_is_kept(kind, adapter, tmp_path):
    try:
        model, modality = adapted(kind, tmp_path, adapter)
    except RequestError:
        pytest.skip("the adapter refuses this tower")
    encoder, batch = model.eval().encoders[modality], prepared(model.encoders[modality])
    prefix = prefix_of(encoder, batch, torch.float32)
    if kind == "spectrogram":  # a single block
        assert prefix is None
        return
    assert prefix is not None
    model.prefixes = {modality: prefix}
    served = kept_batch(model, modality, batch, prefix)
    live, went_on = model.encode({modality: batch})[modality], model.encode(served)[modality]
    mask = live.mask[..., None]
    torch.testing.assert_close(went_on.tokens * mask, live.tokens * mask, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(went_on.pooled, live.pooled, atol=1e-5, rtol=1e-4)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = [
        dict(zip(trained, torch.autograd.grad(said.pooled.square().sum(), list(trained.values())), strict=True))
        for said in (live, went_on)
    ]
    for name in trained:
        torch.testing.assert_close(gradients[1][name], gradients[0][name], atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("kind", ["vit", "bert", "transformer"])
def test_of_the_skipped_blocks_nothing_is_computed(kind, tmp_path):
    model, modality = adapted(kind, tmp_path, LastK())
    encoder, batch = model.encoders[modality], prepared(model.encoders[modality])
    prefix = prefix_of(encoder, batch, torch.float16)
    assert prefix is not None
    model.prefixes = {modality: prefix}
    served = kept_batch(model, modality, batch, prefix)
    with torch.no_grad():
        for block in prefix.skipped:
            for weight in encoder.get_submodule(block).parameters():
                weight.fill_(float("nan"))
    assert model.encode(served)[modality].pooled.isfinite().all()
    assert model.encode({modality: batch})[modality].pooled.isnan().any(), "and then they are blocks again"


def test_a_tower_trained_from_its_first_block_or_before_has_none(tmp_path):
    for adapter in (Lora(2), PromptTuning(2), BitFit()):
        model, modality = adapted("vit", tmp_path, adapter)
        encoder = model.encoders[modality]
        assert prefix_of(encoder, prepared(encoder), torch.float16) is None


def test_patches_left_out_and_numbers_beyond_fp16_are_not_kept(tmp_path):
    model, modality = adapted("vit", tmp_path, LastK())
    encoder = model.encoders[modality]
    batch = prepared(encoder)
    encoder.patch_dropout = 0.5
    assert prefix_of(encoder, batch, torch.float16) is None
    encoder.patch_dropout = 0.0
    with torch.no_grad():
        encoder.get_submodule(prefix_of(encoder, batch, torch.float16).skipped[-1]).mlp.fc2.bias.fill_(1e5)
    assert prefix_of(encoder, batch, torch.float16) is None
    assert prefix_of(encoder, batch, torch.float32) is not None


@pytest.mark.parametrize("massive", [0.0, 1e3])
def test_a_massive_channel_hides_no_error_of_the_others(massive, tmp_path):
    model, modality = adapted("vit", tmp_path, LastK())
    encoder = model.encoders[modality]
    batch = prepared(encoder)
    assert prefix_of(encoder, batch, torch.float16) is not None
    # Past the blocks a way from the input to the encoding, which going on from the prefix leaves out: 15 % of each channel.
    share = 0.0

    def past_the_blocks(_, inputs, said):
        light = inputs[0]["pixels"].float().flatten(1).mean(1, keepdim=True) / 255
        pooled = said.pooled + share * said.pooled.abs().mean() * light
        pooled[:, 0] += massive
        return replace(said, pooled=pooled)

    encoder.register_forward_hook(past_the_blocks)
    assert prefix_of(encoder, batch, torch.float16) is not None
    share = 0.15
    assert prefix_of(encoder, batch, torch.float16) is None


def test_what_is_below_rests_and_alone_names_the_artefact(tmp_path):
    model, modality = adapted("bert", tmp_path, Lora(2, last=1))
    encoder = model.encoders[modality]
    prefix = prefix_of(encoder, prepared(encoder), torch.float16)
    encoder.train()
    prefix.rest(encoder)
    dropouts = {n: m.training for n, m in encoder.named_modules() if isinstance(m, nn.Dropout)}
    assert {n.split(".")[-3] for n, training in dropouts.items() if training} & {"1"} or any(dropouts.values())
    assert not any(training for name, training in dropouts.items() if "layer.0." in name or "embeddings" in name)
    part = FrozenPart(modality, encoder, prefix=prefix)
    name = part.about()["weights"]
    with torch.no_grad():
        next(p for p in encoder.parameters() if p.requires_grad).add_(1)
    assert part.about()["weights"] == name
    with torch.no_grad():
        encoder.get_submodule(prefix.skipped[0]).intermediate.dense.weight.add_(1)
    assert part.about()["weights"] != name


def test_a_digest_of_parts_sees_what_stands_around_them():
    whole = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2))
    name = fingerprint.of_parts(whole, ["0.0"])
    whole.register_buffer("table", torch.ones(1))
    assert fingerprint.of_parts(whole, ["0.0"]) != name
