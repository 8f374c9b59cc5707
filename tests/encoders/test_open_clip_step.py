"""A step on open_clip's towers is open_clip's own: the same features, losses and weights, and cheaper where nobody looks."""

import json
from itertools import islice
from math import log
from pathlib import Path

import pytest
import torch
from open_clip import ClipLoss, create_model, get_tokenizer
from torch import nn

from mmexp import attention
from mmexp.adapters.bottleneck import Bottleneck
from mmexp.adapters.lora import Lora
from mmexp.adapters.prompt_tuning import PromptTuning
from mmexp.encoders.open_clip_image import OpenClipImage
from mmexp.encoders.open_clip_text import OpenClipText
from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.objectives.contrastive import Contrastive
from mmexp.tasks.pretrain import Pretrain
from mmexp.training.groups import parameter_groups
from mmexp.training.optimizer import adamw, constant
from mmexp.types import Balanced

ROWS, STEPS, RATE = 8, 8, 2e-3
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


class Given(nn.Module):
    """The stated weights."""

    def forward(self, losses):
        return Balanced(losses.given)


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


def batches(encoders):
    rng = torch.Generator().manual_seed(1)
    while True:
        order = torch.randperm(len(TEXTS), generator=rng).tolist()
        texts = [TEXTS[i] for i in order]
        yield {
            "image": {"pixels": torch.randint(256, (ROWS, 3, 16, 16), dtype=torch.uint8, generator=rng)},
            "text": encoders["text"].prepare(texts),
            "index": torch.arange(ROWS),
            "concept": torch.arange(ROWS),
            "label": torch.full((ROWS,), -1),
            "texts": texts,
        }


def our_losses(folder: Path, tokens: bool) -> list[float]:
    """Return the losses of our task from the model's own projections and temperature."""
    theirs, encoders = create_model(f"local-dir:{folder}"), towers(folder)
    for encoder in encoders.values():
        encoder.gives_tokens = tokens
    model = Model(encoders, NoFusion({}))
    objective = Contrastive(model.shape(), embed_dim=24)
    with torch.no_grad():
        objective.heads["image"].weight.copy_(theirs.visual.proj.T)
        objective.heads["text"].weight.copy_(theirs.text_projection.T)
        objective.log_scale.fill_(log(1 / 0.07))
    task = Pretrain(model, {"contrastive": objective}, {"contrastive": 1.0}, Given(), adamw, constant)
    optimizer, found = adamw(parameter_groups(task), lr=RATE, weight_decay=0.2), []
    for step, batch in enumerate(islice(batches(encoders), STEPS)):
        losses, _ = task.terms(task.views({k: v for k, v in batch.items() if k != "texts"}, step))
        optimizer.zero_grad()
        losses.losses.sum().backward()
        optimizer.step()
        found.append(float(losses.values[0]))
    return found


def their_losses(folder: Path) -> list[float]:
    """Return the losses of open_clip's model and loss, with AdamW on the groups of open_clip's trainer."""
    model, tokenize = create_model(f"local-dir:{folder}"), get_tokenizer(f"local-dir:{folder}")
    settings = model.visual.preprocess_cfg
    mean, std = (torch.tensor(settings[name]).view(3, 1, 1) for name in ("mean", "std"))
    named = list(model.named_parameters())
    bare = [name for name, p in named if p.ndim < 2 or any(w in name for w in ("bn", "ln", "bias", "logit_scale"))]
    groups = [
        {"params": [p for name, p in named if name in bare], "weight_decay": 0.0},
        {"params": [p for name, p in named if name not in bare], "weight_decay": 0.2},
    ]
    optimizer, found = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98)), []
    for batch in islice(batches(towers(folder)), STEPS):
        pixels = (batch["image"]["pixels"] / 255 - mean) / std
        loss = ClipLoss()(*model(pixels, tokenize(batch["texts"])))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, log(100))
        found.append(loss.item())
    return found


@pytest.mark.parametrize("tokens", [True, False])
def test_losses_are_those_of_open_clips_training(folder, tokens):
    ours, theirs = our_losses(folder, tokens), their_losses(folder)
    assert theirs[-1] != pytest.approx(theirs[0], abs=0.05), "it learns"
    assert ours == pytest.approx(theirs, abs=1e-3)


@torch.no_grad()
def test_features_are_open_clips(folder):
    theirs, encoders = create_model(f"local-dir:{folder}").eval(), towers(folder)
    batch = next(batches(encoders))
    assert batch["text"]["ids"].shape[1] < encoders["text"].context, "captions are trimmed"
    pixels = encoders["image"]._normalised(batch["image"])
    expected = theirs.encode_image(pixels), theirs.encode_text(get_tokenizer(f"local-dir:{folder}")(batch["texts"]))
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
    encoder = towers(folder)[which]
    prepared = next(batches(towers(folder)))[which]
    whole, theirs = encoded_with_gradients(encoder, prepared, True)
    alone, ours = encoded_with_gradients(encoder, prepared, False)
    assert alone.tokens.shape == (ROWS, 0, 32) and alone.mask.shape == (ROWS, 0)
    torch.testing.assert_close(alone.pooled, whole.pooled, atol=1e-6, rtol=1e-5)
    assert ours.keys() == theirs.keys() and len(ours) > 20
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("make", [Bottleneck, PromptTuning, Lora])
@pytest.mark.parametrize("which", ["image", "text"])
def test_what_hangs_on_the_last_block_is_heard(folder, which, make):
    encoder = towers(folder)[which]
    make().apply(f"encoders.{which}", encoder)
    for parameter in encoder.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.5)
    prepared = next(batches(towers(folder)))[which]
    whole, theirs = encoded_with_gradients(encoder, prepared, True)
    alone, ours = encoded_with_gradients(encoder, prepared, False)
    torch.testing.assert_close(alone.pooled, whole.pooled, atol=1e-5, rtol=1e-4)
    assert ours.keys() == theirs.keys() and ours


def test_patches_are_left_out_until_the_tail_of_the_run(folder):
    encoders = towers(folder, patch_dropout={"from": 0.75, "to": 0.0, "end": 0.9, "shape": "step"})
    model, prepared = Model(encoders, NoFusion({})), next(batches(encoders))["image"]
    counts = []
    for progress in (0.0, 0.5, 0.89, 0.9, 1.0):
        model.reach(progress)
        counts.append(encoders["image"](prepared).tokens.shape[1])
    assert counts == [4, 4, 4, 16, 16]
