"""From the same weights and rows our contrastive training has open_clip's own loss curve, in fp32 to 1e-3."""

import json

import open_clip
import pytest
import torch
from open_clip.loss import ClipLoss
from safetensors.torch import save_file
from stand_ins import views_of
from torch import nn

from mmexp.encoders.open_clip_image import OpenClipImage
from mmexp.encoders.open_clip_text import OpenClipText
from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.objectives.contrastive import Contrastive
from mmexp.training.groups import parameter_groups
from mmexp.training.optimizer import adamw

ROWS, STEPS = 12, 10
RATE = {"lr": 1e-3, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.2}
VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
TEXT = {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
# Neither scaled nor shifted, so that both get the pixels as they are.
PREPARED = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}


@pytest.fixture
def folder(tmp_path):
    """Return a model directory of open_clip with random weights."""
    model = {"embed_dim": 48, "vision_cfg": VISION, "text_cfg": TEXT}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": PREPARED}))
    torch.manual_seed(0)
    save_file(open_clip.model.CLIP(**model).state_dict(), tmp_path / "open_clip_model.safetensors")
    return f"local-dir:{tmp_path}"


def rows() -> list[tuple[torch.Tensor, list[str]]]:
    generator = torch.Generator().manual_seed(1)
    words = ["red", "small", "circle", "on", "a", "green", "ground", "two", "blue", "squares"]
    found = []
    for _ in range(STEPS):
        lengths = torch.randint(3, 15, (ROWS,), generator=generator).tolist()
        texts = [" ".join(words[i] for i in torch.randint(10, (n,), generator=generator)) for n in lengths]
        found.append((torch.randint(256, (ROWS, 3, 32, 32), generator=generator, dtype=torch.uint8), texts))
    return found


def theirs(folder: str) -> list[float]:
    model, _, _ = open_clip.create_model_and_transforms(folder)
    tokenizer, criterion = open_clip.get_tokenizer(folder), ClipLoss()
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    # As in open_clip's trainer.
    rest = [p for name, p in named if p.ndim < 2 or any(n in name for n in ("bn", "ln", "bias", "logit_scale"))]
    decayed = [p for _, p in named if not any(p is one for one in rest)]
    optimizer = torch.optim.AdamW([{"params": rest, "weight_decay": 0.0}, {"params": decayed}], **RATE)
    curve = []
    for pixels, texts in rows():
        image, text, scale = model(pixels.float() / 255, tokenizer(texts))
        loss = criterion(image, text, scale)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    return curve


def ours(folder: str, gives_tokens: bool) -> list[float]:
    image, text = OpenClipImage(folder), OpenClipText(folder)
    image.gives_tokens = text.gives_tokens = gives_tokens
    model = Model({"image": image, "text": text}, NoFusion({}))
    objective = Contrastive(model.shape(), embed_dim=48, temperature=0.07)
    with torch.no_grad():
        objective.heads["image"].weight.copy_(image.model.proj.T)
        objective.heads["text"].weight.copy_(text.model.text_projection.T)
    whole = nn.ModuleDict({"model": model, "objectives": nn.ModuleDict({"contrastive": objective})})
    optimizer = adamw(parameter_groups(whole), **RATE)
    curve = []
    for pixels, texts in rows():
        own = torch.arange(ROWS)
        batch = {"image": {"pixels": pixels}, "text": text.prepare(texts), "concept": own, "label": own, "index": own}
        (loss,) = objective(views_of(model, batch)).losses.values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    return curve


@pytest.mark.parametrize("gives_tokens", [True, False])
def test_the_loss_curves_are_the_same(folder, gives_tokens):
    found, expected = ours(folder, gives_tokens), theirs(folder)
    assert expected[-1] < expected[0]
    assert found == pytest.approx(expected, abs=1e-3)
