"""The video encoder: frames through a picture encoder, and what they say together."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from stand_ins import TinyImage, TinyText
from torch import nn

from mmexp import build
from mmexp.compose import compose
from mmexp.encoders.frames import FrameEncoder
from mmexp.errors import RequestError


def encoder(**settings) -> FrameEncoder:
    torch.manual_seed(0)
    return FrameEncoder(TinyImage(), frames=4, heads=2, **settings)


def clips(*lengths: int) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (length, 8, 8, 3), dtype=np.uint8) for length in lengths]


def test_without_attention_tokens_are_what_the_picture_encoder_says_of_each_frame():
    video, (whole, short) = encoder(pool="mean"), clips(4, 2)
    said = video(video.prepare([whole, short]))
    alone = video.image(video.image.prepare([Image.fromarray(frame) for frame in (*whole, *short)])).pooled
    assert torch.allclose(said.tokens[0], alone[:4]) and torch.allclose(said.tokens[1, :2], alone[4:])
    assert torch.allclose(said.pooled[1], alone[4:].mean(0), atol=1e-6)
    assert said.mask.tolist() == [[True] * 4, [True, True, False, False]] and not said.tokens[1, 2:].any()


def test_only_attention_knows_the_order_of_frames():
    (clip,) = clips(4)
    for pool, knows in (("attention", True), ("mean", False)):
        video = encoder(pool=pool)
        said = video(video.prepare([clip, clip[::-1].copy()])).pooled
        assert torch.allclose(said[0], said[1], atol=1e-6) != knows


def test_a_short_clip_says_the_same_beside_a_long_one():
    video, (long, short) = encoder(), clips(4, 2)
    together, alone = video(video.prepare([long, short])), video(video.prepare([short]))
    assert torch.allclose(together.pooled[1], alone.pooled[0], atol=1e-6)


def test_of_a_longer_clip_the_frames_are_evenly_spaced():
    (clip,), video = clips(8), encoder()
    assert torch.equal(video.prepare([clip])["frames"], video.prepare([clip[[1, 3, 5, 7]]])["frames"])
    pictures = [Image.fromarray(frame) for frame in clip]
    assert torch.equal(video.prepare([clip])["frames"], video.prepare([pictures])["frames"])


def test_all_weights_learn():
    video = encoder()
    said = video(video.prepare(clips(4, 3)))
    (said.pooled.square().sum() + said.tokens.square().sum()).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in video.parameters())


def test_adapters_find_the_layers_of_both():
    video = encoder()
    layers = [name for name, module in video.named_modules() if isinstance(module, nn.Linear)]
    found = {name for name in layers if re.fullmatch(video.adapter_targets, name)}
    assert {"image.patch", "image.mix", "blocks.0.qkv", "blocks.0.fc2"} <= found


def test_what_mixes_the_frames_is_fresh_whatever_the_picture_encoder_has_learned():
    image = TinyImage()
    image.pretrained = True
    assert FrameEncoder(image, heads=2, pool="mean").pretrained and not FrameEncoder(image, heads=2).pretrained


def test_sizes_and_encoders_that_do_not_go_together():
    with pytest.raises(RequestError, match=r"width of 16 does not divide into heads=3"):
        FrameEncoder(TinyImage(), heads=3)
    with pytest.raises(RequestError, match="an encoder of text"):
        FrameEncoder(TinyText())


def test_any_picture_encoder_by_the_command_line():
    for bundle, more, expected in (
        ("vit", [], "vit_tiny_patch16_224"),
        ("cnn", [], "resnet10t"),
        ("vit", ["encoder/image@encoder.video.image=cnn"], "resnet10t"),
    ):
        config = compose([f"encoder={bundle}", "fusion=none", "objective=contrastive", *more])
        assert config["encoder"]["video"]["image"]["name"] == expected
    built = build.model(config, ["text", "video"])
    assert set(built.encoders.keys()) == {"text", "video"} and built.encoders["video"].dim == 288
