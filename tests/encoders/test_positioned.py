"""Encoders with each choice of positions, with dropout and patch dropout; and the recurrent ones."""

import json
import re
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from mmexp.adapters.lora import Lora
from mmexp.encoders.open_clip_image import OpenClipImage
from mmexp.encoders.recurrent import Recurrent
from mmexp.encoders.spectrogram import SpectrogramTransformer
from mmexp.encoders.timm_image import TimmImage
from mmexp.encoders.transformer import Transformer
from mmexp.errors import RequestError
from mmexp.needs import check_needs
from mmexp.shapes import Supervision

CAPTIONS = ["a red cat", "the moon and the cat sits on the moon and looks down"]
OF_WORDS = ["learned", "sine", "relative", "rotary"]
OF_GRIDS = [*OF_WORDS, "sincos2d"]
SIZES = {"patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 3}
AVERAGED = {"class_token": False, "global_pool": "avg"}
PIXELS = {"pixels": torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))}


def vit(positions=None, name="vit_tiny_patch16_224", options=None, **more):
    torch.manual_seed(0)
    return TimmImage(name, 64, options={**SIZES, **(options or {})}, positions=positions, **more)


def make(kind):
    torch.manual_seed(0)
    if kind in ("gru", "lstm"):
        return Recurrent(kind, dim=12, depth=2)
    return Transformer(dim=24, depth=2, positions=kind)


def without_gradient(encoder, prepared):
    encoded = encoder.train()(prepared)
    (encoded.tokens.square().sum() + encoded.pooled.square().sum()).backward()
    return [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]


@pytest.mark.parametrize("kind", [*OF_WORDS, "gru", "lstm"])
def test_text_encoders_train_whole_and_do_not_see_padding(kind):
    encoder = make(kind)
    prepared = encoder.prepare(CAPTIONS)
    assert not without_gradient(encoder, prepared)
    with torch.no_grad():
        alone, beside = encoder(encoder.prepare(CAPTIONS[:1])), encoder(prepared)
    torch.testing.assert_close(beside.pooled[:1], alone.pooled, atol=1e-5, rtol=1e-4)
    assert not beside.tokens[~beside.mask].any()
    torch.testing.assert_close(beside.tokens[:1, : alone.mask.shape[1]], alone.tokens, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [*OF_WORDS, "gru", "lstm"])
def test_text_encoders_see_the_order_of_words(kind):
    encoder = make(kind)
    with torch.no_grad():
        one, other = encoder(encoder.prepare(["cat red moon", "moon red cat"])).pooled
    assert (one - other).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_vectors_are_added_to_the_words_of_recurrent_encoders(kind):
    encoder = make(kind)
    prepared = encoder.prepare(CAPTIONS)
    other = encoder.prepare(CAPTIONS[::-1])
    apart = encoder.embed(other["ids"]) - encoder.embed(prepared["ids"])
    same = {**prepared, "added": apart, "mask": torch.ones_like(prepared["mask"])}
    torch.testing.assert_close(encoder(same).tokens, encoder({**other, "mask": same["mask"]}).tokens)
    assert encoder.decode(prepared["ids"]) == CAPTIONS
    assert encoder(prepared | {"mask": torch.zeros_like(prepared["mask"])}).pooled.eq(0).all(), "a row without words"


def test_a_recurrent_encoder_may_read_forward_alone():
    encoder = Recurrent("gru", dim=12, bidirectional=False)
    first, second = encoder(encoder.prepare(["red cat moon", "red cat sun"])).tokens
    torch.testing.assert_close(first[:2], second[:2])
    assert not torch.allclose(*Recurrent("gru", dim=12)(encoder.prepare(["red cat moon", "red cat sun"])).tokens[:, :2])


@pytest.mark.parametrize("positions", OF_GRIDS)
def test_the_spectrogram_transformer_with_each(positions):
    torch.manual_seed(0)
    sizes = {"rate": 4000, "seconds": 0.5, "mels": 8, "patch": 4, "dim": 24, "heads": 2, "depth": 2}
    encoder = SpectrogramTransformer(**sizes, positions=positions)
    samples = torch.randn(2, encoder.length)
    samples[0, 400:] = 0
    prepared = encoder.spectrogram(samples)
    assert not without_gradient(encoder, prepared)
    later = {**prepared, "spectrogram": prepared["spectrogram"].roll(4, 2)}
    full = {name: {**p, "mask": torch.ones_like(p["mask"])} for name, p in {"now": prepared, "later": later}.items()}
    assert (encoder(full["now"]).pooled - encoder(full["later"]).pooled).abs().max() > 1e-5, "a place matters"


@pytest.mark.parametrize("options", [AVERAGED, {"reg_tokens": 2}], ids=["averaged", "class_token"])
@pytest.mark.parametrize("positions", OF_GRIDS)
def test_vits_with_each(positions, options):
    encoder = vit(positions, options=options)
    assert not without_gradient(encoder, PIXELS) and encoder.grid == (4, 4)
    check_places(encoder)


@pytest.mark.parametrize("positions", [None, *OF_GRIDS])
@pytest.mark.parametrize(
    "name", ["eva02_tiny_patch14_224", "vit_small_patch16_dinov3", "vit_small_patch16_rope_mixed_224"]
)
def test_rotary_vits_of_timm_with_each(name, positions):
    encoder = vit(positions, name, {"init_values": None})
    assert not without_gradient(encoder, PIXELS)
    check_places(encoder)


@torch.no_grad()
def check_places(encoder):
    """Patches in any order, with their places, say the same; and at other places something else."""
    encoder.eval()
    for name, weights in encoder.named_parameters():
        # As if trained: at first attention and the scales of layers are so small that places hardly tell.
        if ".attn." in name and weights.ndim > 1:
            weights.mul_(5)
        elif "places" in name:
            weights.mul_(50)
        elif "gamma" in name:
            weights.fill_(1)
    order = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(row)) for row in range(2)])
    whole, shuffled = encoder(PIXELS), encoder.encode_visible(PIXELS, order)
    expected = whole.tokens.gather(1, order[..., None].expand_as(whole.tokens))
    torch.testing.assert_close(shuffled.tokens, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(shuffled.pooled, whole.pooled, atol=1e-4, rtol=1e-4)
    moved = encoder({"pixels": PIXELS["pixels"].roll(16, 3)}).tokens
    assert (moved - whole.tokens.unflatten(1, (4, 4)).roll(1, 2).flatten(1, 2)).abs().max() > 1e-2


def test_learned_is_what_it_was():
    before, now = vit(None, options=AVERAGED), vit("learned", options=AVERAGED)
    assert before.state_dict().keys() == now.state_dict().keys()
    assert torch.equal(before(PIXELS).pooled, now(PIXELS).pooled)


def test_a_fixed_table_is_no_weight():
    encoder = vit("sincos2d", options=AVERAGED)
    assert not [name for name in encoder.state_dict() if "pos_embed" in name]
    from timm.layers import build_sincos2d_pos_embed

    torch.testing.assert_close(encoder.model.pos_embed[0], build_sincos2d_pos_embed([4, 4], 48))


@pytest.mark.parametrize("positions", [None, "relative", "rotary"])
def test_patches_are_left_out_in_training_alone(positions):
    encoder = vit(positions, options=AVERAGED, patch_dropout=0.75)
    assert encoder.drops_patches and encoder.grid == (4, 4)
    torch.manual_seed(3)
    first = encoder(PIXELS)
    torch.manual_seed(3)
    again = encoder(PIXELS)
    assert first.tokens.shape == (2, 4, 48) and first.mask.shape == (2, 4)
    assert torch.equal(first.pooled, again.pooled), "by torch's generator, which each step seeds"
    assert encoder.encode_visible(PIXELS, torch.arange(9).expand(2, -1)).tokens.shape[1] == 9
    assert encoder.eval()(PIXELS).tokens.shape == (2, 16, 48)


def test_the_patches_that_stay_keep_their_places(monkeypatch):
    encoder = vit("rotary", options=AVERAGED, patch_dropout=0.5)
    order = torch.tensor([[5, 2, 9, 14, 0, 1, 8, 3]] * 2)
    monkeypatch.setattr(torch, "argsort", lambda *_, **__: torch.cat([order, 15 - order], 1))
    dropped = encoder(PIXELS).tokens
    torch.testing.assert_close(dropped, encoder.encode_visible(PIXELS, order).tokens, atol=1e-4, rtol=1e-4)


def test_patch_dropout_of_open_clip(tmp_path):
    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8, "patch_dropout": 0.5}
    text = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
    config = {"model_cfg": {"embed_dim": 48, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    pixels = {"pixels": PIXELS["pixels"][..., :32, :32].contiguous()}
    plain, dropping = (OpenClipImage(f"local-dir:{tmp_path}", patch_dropout=rate) for rate in (0.0, 0.25))
    assert plain(pixels).tokens.shape[1] == 16 and not plain.drops_patches
    assert dropping(pixels).tokens.shape[1] == 12
    assert dropping.encode_visible(pixels, torch.arange(5).expand(2, -1)).tokens.shape[1] == 5
    assert dropping.eval()(pixels).tokens.shape[1] == 16


@pytest.mark.parametrize("make", [lambda: Transformer(dim=24, dropout=0.5), lambda: Recurrent("gru", 12, dropout=0.5)])
def test_dropout_is_of_training_alone(make):
    encoder = make()
    prepared = encoder.prepare(CAPTIONS)
    first, second = encoder(prepared).pooled, encoder(prepared).pooled
    assert not torch.equal(first, second)
    encoder.eval()
    assert torch.equal(encoder(prepared).pooled, encoder(prepared).pooled)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (
            lambda: TimmImage("resnet10t", 64, positions="rotary"),
            "positions=rotary: timm's ResNet has positions of its own",
        ),
        (
            lambda: TimmImage("resnet10t", 64, patch_dropout=0.5),
            "patch_dropout: timm's ResNet cannot leave patches out",
        ),
        (lambda: vit(patch_dropout=1.0), "patch_dropout=1.0 leaves no patch"),
        (
            lambda: vit("rotary", options={"num_heads": 8}),
            "positions=rotary: the 6 channels of a head must be divisible",
        ),
        (
            lambda: vit("rotary", options={"attn_layer": "diff"}),
            "the blocks of this model are Block with DiffAttention",
        ),
        (lambda: OpenClipImage("RN50", patch_dropout=0.5), "patch_dropout: 'RN50' is a ResNet"),
        (lambda: Recurrent("lstm", dim=13), "dim=13 does not divide into two directions"),
    ],
)
def test_mistakes_are_answered(build, said):
    with pytest.raises(RequestError, match=re.escape(said)) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_weights_keep_the_positions_that_they_were_trained_with(tmp_path):
    from safetensors.torch import save_file

    file = tmp_path / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in vit().model.state_dict().items()}, file)
    assert vit("learned", weights=str(file)).pretrained
    with pytest.raises(RequestError, match="positions=rotary: these weights were trained with learned positions"):
        vit("rotary", weights=str(file))


@pytest.mark.parametrize(("objective", "refused"), [("masked", True), ("words", False), ("mae", False)])
def test_patches_cannot_be_dropped_where_each_is_predicted(objective, refused):
    masked = "mmexp.objectives.masked.Masked"
    nodes = {
        "masked": {"_target_": masked, "patches": 0.5},
        "words": {"_target_": masked, "patches": 0},
        "mae": {"_target_": "mmexp.objectives.mae.Mae"},
    }
    built = SimpleNamespace(encoders={"image": vit(options=AVERAGED, patch_dropout=0.5)})
    with pytest.raises(RequestError, match=r"encoder\.image\.patch_dropout=0") if refused else nullcontext():
        check_needs({"objective": {objective: nodes[objective]}}, built, Supervision())


def test_lora_wraps_the_projection_of_a_recurrent_encoder():
    encoder = Recurrent("gru", dim=12)
    Lora(rank=2).apply("encoders.text", encoder)
    trained = [name for name, p in encoder.named_parameters() if p.requires_grad]
    assert len(trained) == 2 and all(name.startswith("proj.lora_") for name in trained)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_layers_one_by_one_say_what_one_of_several_would(kind):
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    torch.manual_seed(0)
    encoder = Recurrent(kind, dim=12, depth=3, dropout=0.5).eval()
    whole = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[kind](12, 6, 3, batch_first=True, bidirectional=True)
    there = {
        name.replace("_l0", f"_l{number}"): weight
        for number, layer in enumerate(encoder.layers)
        for name, weight in layer.state_dict().items()
    }
    whole.load_state_dict(there)
    prepared = encoder.prepare(CAPTIONS)
    lengths = prepared["mask"].sum(1)
    packed = pack_padded_sequence(encoder.embed(prepared["ids"]), lengths, batch_first=True, enforce_sorted=False)
    read, _ = pad_packed_sequence(whole(packed)[0], batch_first=True)
    wanted = encoder.norm(encoder.proj(read)) * prepared["mask"][..., None]
    assert torch.equal(encoder(prepared).tokens, wanted)


def test_no_recurrent_layer_drops_by_itself():
    encoder = Recurrent("lstm", dim=12, depth=3, dropout=0.5)
    recurrent = [layer for layer in encoder.modules() if isinstance(layer, torch.nn.RNNBase)]
    assert [(layer.num_layers, layer.dropout) for layer in recurrent] == [(1, 0.0)] * 3
    rates = []
    encoder.dropout.register_forward_hook(lambda *_: rates.append(1))
    encoder(encoder.prepare(CAPTIONS))
    assert len(rates) == 4, "before each layer, and behind the last"
