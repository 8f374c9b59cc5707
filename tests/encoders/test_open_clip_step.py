"""The towers of open_clip say what they say there, and the pooled token alone costs less where nobody looks at others."""

import json
from pathlib import Path

import pytest
import torch
from open_clip import create_model, get_tokenizer
from torch import nn

from mmexp import attention
from mmexp.adapters.bottleneck import Bottleneck
from mmexp.adapters.lora import Lora
from mmexp.adapters.prompt_tuning import PromptTuning
from mmexp.encoders.open_clip_image import OpenClipImage
from mmexp.encoders.open_clip_text import OpenClipText
from mmexp.fusion.none import NoFusion
from mmexp.model import Model

ROWS = 8
TEXTS = [
    "a dog",
    "two small red circles",
    "cats on a mat at night",
    "x",
    "a blue square",
    "rain",
    "no",
    "stars and a moon",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    vision = {"image_size": 16, "layers": 3, "width": 32, "head_width": 16, "patch_size": 4}
    text = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    folder = tmp_path_factory.mktemp("model")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    save_file(CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    return folder


def towers(folder: Path, **image) -> dict[str, nn.Module]:
    name = f"local-dir:{folder}"
    return {"image": OpenClipImage(name, **image), "text": OpenClipText(name)}


def prepared_rows(encoders) -> dict[str, dict]:
    pixels = torch.randint(256, (ROWS, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return {"image": {"pixels": pixels}, "text": encoders["text"].prepare(TEXTS)}


@torch.no_grad()
def test_features_are_open_clips(folder):
    theirs, encoders = create_model(f"local-dir:{folder}").eval(), towers(folder)
    batch = prepared_rows(encoders)
    assert batch["text"]["ids"].shape[1] < encoders["text"].context, "captions are trimmed"
    pixels = encoders["image"]._normalised(batch["image"])
    expected = theirs.encode_image(pixels), theirs.encode_text(get_tokenizer(f"local-dir:{folder}")(TEXTS))
    for (name, encoder), known in zip(encoders.items(), expected, strict=True):
        for gives_tokens in (True, False):
            encoder.gives_tokens = gives_tokens
            torch.testing.assert_close(encoder.project(encoder(batch[name])), known, atol=1e-6, rtol=1e-6)


def encoded_with_gradients(encoder, prepared, gives_tokens):
    encoder.gives_tokens = gives_tokens
    encoder.zero_grad()
    encoded = encoder(prepared)
    weights = torch.linspace(-1, 1, encoded.pooled.shape[-1])
    (encoded.pooled.square() * weights).sum().backward()
    return encoded, {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("which", ["image", "text"])
def test_a_pooled_token_alone_is_that_of_all(folder, which, fast, monkeypatch):
    monkeypatch.setattr(attention, "slow_when_fused", lambda *_: fast)
    encoders = towers(folder)
    encoder, prepared = encoders[which], prepared_rows(encoders)[which]
    whole, theirs = encoded_with_gradients(encoder, prepared, True)
    alone, ours = encoded_with_gradients(encoder, prepared, False)
    assert alone.tokens.shape == (ROWS, 0, 32) and alone.mask.shape == (ROWS, 0)
    torch.testing.assert_close(alone.pooled, whole.pooled, atol=1e-6, rtol=1e-5)
    assert ours.keys() == theirs.keys() and len(ours) > 20
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("make", [Bottleneck, PromptTuning, Lora])
@pytest.mark.parametrize("which", ["image", "text"])
def test_what_hangs_on_the_last_block_is_heard(folder, which, make):
    encoders = towers(folder)
    encoder, prepared = encoders[which], prepared_rows(encoders)[which]
    make().apply(f"encoders.{which}", encoder)
    for parameter in encoder.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.5)
    whole, theirs = encoded_with_gradients(encoder, prepared, True)
    alone, ours = encoded_with_gradients(encoder, prepared, False)
    torch.testing.assert_close(alone.pooled, whole.pooled, atol=1e-5, rtol=1e-4)
    assert ours.keys() == theirs.keys() and ours


def test_patches_are_left_out_until_the_tail_of_the_run(folder):
    encoders = towers(folder, patch_dropout={"from": 0.75, "to": 0.0, "end": 0.9, "shape": "step"})
    model, prepared = Model(encoders, NoFusion({})), prepared_rows(encoders)["image"]
    counts = []
    for progress in (0.0, 0.5, 0.89, 0.9, 1.0):
        model.reach(progress)
        counts.append(encoders["image"](prepared).tokens.shape[1])
    assert counts == [4, 4, 4, 16, 16]
