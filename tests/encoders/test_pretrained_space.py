"""Heads on the towers of one CLIP or SigLIP start as its own projections: the embeddings are the model's."""

import json
from math import log

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from stand_ins import batch_of, views_of
from torch.nn import functional as F

from mmexp.build.parts import objectives
from mmexp.build.spaces import pretrained_heads, with_stored_heads
from mmexp.encoders.open_clip_image import OpenClipImage
from mmexp.encoders.open_clip_space import OpenClipSpace
from mmexp.encoders.open_clip_text import OpenClipText
from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.objectives.contrastive import Contrastive
from mmexp.objectives.margin import Margin
from mmexp.objectives.prompted import Prompted
from mmexp.objectives.siglip import SigLip
from mmexp.objectives.supcon import SupCon
from mmexp.objectives.triplet import Triplet
from mmexp.shapes import Supervision

SIZE = {"image_size": 32, "patch_size": 8}
TEXT = {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
CLIP = {
    "embed_dim": 48,
    "vision_cfg": {**SIZE, "layers": 2, "width": 64, "head_width": 32},
    "text_cfg": TEXT,
}
# As ViT-B-16-SigLIP: a map head of timm without projection, text without a causal mask, its projection with a bias.
SIGLIP = {
    "embed_dim": 64,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 32,
        "timm_model_name": "vit_base_patch16_siglip_224",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "text_cfg": {**TEXT, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
}
# The same picture tower with a projection in two layers, and the width of CLIP's.
MLP = {**SIGLIP, "embed_dim": 48, "vision_cfg": {**SIGLIP["vision_cfg"], "timm_pool": "map", "timm_proj": "mlp"}}
# As RN50: the attention pool's output projection is that of the tower.
RESNET = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
    "text_cfg": TEXT,
}
PICTURES = [Image.new("RGB", (32, 32), colour) for colour in ("red", "navy", "white")]
TEXTS = ["a red square", "blue", "a very white picture of nothing at all"]


@pytest.fixture(autouse=True)
def small_siglip(monkeypatch):
    """Make timm's SigLIP small: open_clip has no key for its depth."""
    import timm

    made = timm.create_model
    small = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 2}
    monkeypatch.setattr(timm, "create_model", lambda name, **keys: made(name, **{**keys, **small}))


def folder(path, config, seed: int = 0, scale: float | None = None) -> str:
    """Write a model directory of open_clip with random weights that are nowhere zero, logit scale and bias included."""
    path.mkdir()
    (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(seed)
    kind = open_clip.model.CustomTextCLIP if config.get("custom_text") else open_clip.model.CLIP
    model = kind(**{key: value for key, value in config.items() if key != "custom_text"})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        if scale:
            model.logit_scale.fill_(log(scale))
    save_file(model.state_dict(), path / "open_clip_model.safetensors")
    return f"local-dir:{path}"


def model_of(image: str, text: str) -> Model:
    return Model({"image": OpenClipImage(image), "text": OpenClipText(text)}, NoFusion({"image": 1, "text": 1})).eval()


def prepared(model: Model) -> dict:
    return {name: model.encoders[name].prepare(values) for name, values in (("image", PICTURES), ("text", TEXTS))}


@pytest.mark.parametrize("config", [CLIP, SIGLIP, MLP, RESNET], ids=["clip", "siglip", "mlp", "resnet"])
@pytest.mark.parametrize("objective", [Contrastive, SigLip, Triplet, Margin, SupCon])
@torch.no_grad()
def test_embeddings_and_scale_are_those_of_open_clip(config, objective, tmp_path):
    name = folder(tmp_path / "model", config)
    model = model_of(name, name)
    head = objective(model.shape(), embed_dim=7)
    theirs, _, transform = open_clip.create_model_and_transforms(name)
    theirs.eval()
    batch = prepared(model)
    ours = head.embed(model.encode(batch))
    pixels = torch.stack([transform(picture) for picture in PICTURES])
    texts = open_clip.get_tokenizer(name)(TEXTS)
    torch.testing.assert_close(ours["image"], theirs.encode_image(pixels, normalize=True), rtol=0, atol=1e-5)
    torch.testing.assert_close(ours["text"], theirs.encode_text(texts, normalize=True), rtol=0, atol=1e-5)
    # Without a bias the model's scale is not one of the sigmoid loss.
    if objective is Contrastive or (objective is SigLip and theirs.logit_bias is not None):
        assert torch.equal(head.log_scale, theirs.logit_scale)
    # Padding that the model attends to is no word.
    real, words = (
        batch["text"].get("real", batch["text"]["mask"]),
        (texts != model.encoders["text"].pad_token_id).sum(1),
    )
    assert real.sum(1).tolist() == words.tolist()
    space = OpenClipSpace(dict(model.encoders.items())).embed(model.encode(batch))
    torch.testing.assert_close(space["image"], ours["image"], rtol=0, atol=1e-6)
    if objective is SigLip:
        assert head.bias.item() == pytest.approx(-10.0 if theirs.logit_bias is None else theirs.logit_bias.item())
    line = pretrained_heads(model, {"own": head}, ())["own"]
    assert f"the projections of {name} (image, text)" in line
    assert ("logit scale" in line) == hasattr(head, "log_scale")


def test_all_of_the_heads_is_trained_and_the_towers_are_left_alone(tmp_path):
    name = folder(tmp_path / "model", SIGLIP)
    model = model_of(name, name)
    head = Contrastive(model.shape())
    assert {n for n, _ in head.named_parameters()} == {"heads.text.weight", "heads.text.bias", "log_scale"}
    before = model.encoders["text"].model.text_projection.weight.clone()
    batch = {**batch_of(3), **prepared(model)}
    head(views_of(model, batch)).losses["contrastive"].backward()
    torch.optim.SGD(head.parameters(), lr=1.0).step()
    assert head.heads["text"].weight.grad.abs().sum() > 0
    assert torch.equal(model.encoders["text"].model.text_projection.weight, before)
    # Another objective on the same towers starts from the model's own again.
    assert torch.equal(SigLip(model.shape()).heads["text"].weight, before)


def test_learned_words_begin_in_clips_own_space(tmp_path):
    name = folder(tmp_path / "model", CLIP)
    model = model_of(name, name)
    shape = model.shape(2, supervision=Supervision(frozenset({"labels"}), ["cat", "dog"], [1, 1]))
    head = Prompted(shape, template="a photo of a {}", context_length=0)
    assert head.space.pretrained == ["image", "text"]
    batch = {**batch_of(3), **prepared(model)}
    theirs = open_clip.create_model(name).eval()
    with torch.no_grad():
        logits = head.classify(views_of(model, batch))
        texts = open_clip.get_tokenizer(name)(["a photo of a cat", "a photo of a dog"])
        pixels = model.encoders["image"]._normalised(batch["image"])
        expected = theirs.encode_image(pixels, normalize=True) @ theirs.encode_text(texts, normalize=True).T
    torch.testing.assert_close(logits, theirs.logit_scale.exp().clamp(max=100) * expected, rtol=1e-4, atol=1e-4)


def test_one_swapped_tower_random_weights_and_a_wish_have_fresh_heads(tmp_path):
    one, other = folder(tmp_path / "one", CLIP), folder(tmp_path / "other", CLIP, seed=1)
    model = model_of(one, other)
    head = Contrastive(model.shape(), embed_dim=7)
    assert head.heads["image"].out_features == 7 and head.log_scale.exp().item() == pytest.approx(1 / 0.15)
    line = pretrained_heads(model, {"own": head}, ())["own"]
    assert line == (
        f"start afresh: the image tower is of {one}, the text tower is of {other}, and no two towers are of one model"
    )
    model = model_of(one, one)
    assert pretrained_heads(model, {"own": Contrastive(model.shape(), pretrained_heads=False)}, ()) == {
        "own": "start afresh (pretrained_heads=false)"
    }
    assert pretrained_heads(model, {"own": Contrastive(model.shape())}, ["objectives.own"]) == {}
    (tmp_path / "one/open_clip_model.safetensors").unlink()
    assert model_of(one, one).shape().spaces == {}


def test_a_further_modality_gets_a_head_into_the_same_space(tmp_path):
    from stand_ins import TinyText

    name = folder(tmp_path / "model", CLIP)
    towers = {"image": OpenClipImage(name), "text": OpenClipText(name), "title": TinyText()}
    head = Contrastive(Model(towers, NoFusion({})).shape())
    assert {n: layer.out_features for n, layer in head.heads.items()} == {"image": 48, "text": 48, "title": 48}
    assert F.normalize(head.heads["title"].weight, dim=-1).shape[0] == 48


def test_a_pretrained_scale_beyond_the_limit_is_the_limit(tmp_path):
    name = folder(tmp_path / "model", {**CLIP, "init_logit_bias": -10}, scale=118.0)
    model = model_of(name, name)
    supervision = Supervision(frozenset({"labels"}), ["cat", "dog"], [1, 1])
    prompted = Prompted(model.shape(2, supervision=supervision), context_length=0, train_space=True, space="none")
    for head in (Contrastive(model.shape()), SigLip(model.shape(), max_scale=100.0), prompted):
        log_scale = getattr(head, "space", head).log_scale
        assert log_scale.exp().item() == pytest.approx(118, rel=1e-5)
        with torch.no_grad():
            log_scale.add_(0.5)
        head.clamp_parameters()
        assert log_scale.exp().item() == pytest.approx(118, rel=1e-5)


@pytest.mark.parametrize("config", [CLIP, SIGLIP], ids=["clip", "siglip"])
def test_stored_heads_go_before_those_of_the_towers(config, tmp_path):
    name = folder(tmp_path / "model", config)
    shape = model_of(name, name).shape(2, supervision=Supervision(frozenset({"labels"}), ["cat", "dog"], [1, 1]))
    targets = {"contrastive": Contrastive, "triplet": Triplet, **({"prompted": Prompted} if shape.word_dim else {})}
    nodes = {n: {"_target_": f"{kind.__module__}.{kind.__name__}"} for n, kind in targets.items()}
    if "prompted" in nodes:
        nodes["prompted"]["space"] = "contrastive"
    asked = {"objective": nodes}
    older = {"objective": {n: {**node, "pretrained_heads": False, "embed_dim": 7} for n, node in nodes.items()}}
    for stored in (older, asked):
        there = objectives(stored, shape)
        # As a run of `contrastive` alone, whose space `prompted` takes.
        weights = {
            f"objectives.{n}.{key}": tensor
            for n, head in there.items()
            if n != "prompted"
            for key, tensor in head.state_dict().items()
        }
        found = with_stored_heads(asked, weights, shape)
        heads = objectives(found, shape)
        for n, head in heads.items():
            own, other = getattr(head, "space", head), getattr(there[n], "space", there[n])
            assert own.pretrained == other.pretrained, n
            own.load_state_dict(other.state_dict())
        assert (found is asked) == (stored is asked)
