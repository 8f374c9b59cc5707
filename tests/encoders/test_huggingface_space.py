"""Towers of a CLIP or SigLIP of transformers: fresh runs begin with the model's own embeddings, logit scale and bias."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from mmexp.build.parts import _encoder as make_encoder
from mmexp.build.spaces import pretrained_heads
from mmexp.encoders.huggingface_image import HuggingFaceImage
from mmexp.encoders.huggingface_text import HuggingFaceText
from mmexp.errors import RequestError
from mmexp.exporting import hf_folders
from mmexp.exporting.towers import Tower
from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.objectives.contrastive import Contrastive
from mmexp.objectives.siglip import SigLip
from mmexp.objectives.triplet import Triplet

VISION = {"image_size": 32, "patch_size": 8, "hidden_size": 48, "intermediate_size": 64}
VISION |= {"num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
PICTURES = [Image.new("RGB", (40, 32), colour) for colour in ("red", "navy", "white")]
TEXTS = ["a red square", "blue", "a very white picture of nothing at all that is longer than any context " * 3]


def tokenizer_of(folder) -> int:
    """Write the bundled tokenizer with marks as CLIP has them, the end mark also as padding; return how many pieces it has."""
    from importlib.resources import files

    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer.from_file(str(files("mmexp") / "data" / "assets" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.add_special_tokens(["<begin>", "<end>"])
    marks = [(mark, tokenizer.token_to_id(mark)) for mark in ("<begin>", "<end>")]
    tokenizer.post_processor = TemplateProcessing(single="<begin> $A <end>", special_tokens=marks)
    names = {"bos_token": "<begin>", "eos_token": "<end>", "pad_token": "<end>", "unk_token": "<end>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=16, **names).save_pretrained(folder)
    return tokenizer.get_vocab_size()


def saved(folder, kind: str, scale: float = 3.0):
    """Write a small random model whose parameters are nowhere zero, with its processors; return it."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, SiglipConfig, SiglipImageProcessor, SiglipModel

    size = tokenizer_of(folder)
    text = {**TEXT, "vocab_size": size, "max_position_embeddings": 16}
    text |= {"bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": size - 1}
    torch.manual_seed(1)
    if kind == "clip":
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=24))
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    else:
        # The projection of SigLIP's text tower has the width of the picture tower.
        model = SiglipModel(SiglipConfig(text_config={**text, "projection_size": 48}, vision_config=VISION))
        SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        model.logit_scale.fill_(scale)
    model.save_pretrained(folder)
    return model.eval()


@pytest.fixture(params=["clip", "siglip"])
def pair(request, tmp_path):
    theirs = saved(tmp_path, request.param)
    return model_of(str(tmp_path)), theirs


def model_of(name: str) -> Model:
    return Model({"image": HuggingFaceImage(name), "text": HuggingFaceText(name)}, NoFusion({})).eval()


def features(model, **inputs) -> torch.Tensor:
    """Return the unit vectors of transformers, whose methods return a tensor or an output with one."""
    out = (model.get_image_features if "pixel_values" in inputs else model.get_text_features)(**inputs)
    return F.normalize(out if isinstance(out, torch.Tensor) else out.pooler_output, dim=-1)


@pytest.mark.parametrize("objective", [Contrastive, SigLip, Triplet])
@torch.no_grad()
def test_embeddings_scale_and_bias_are_those_of_transformers(pair, objective, tmp_path):
    from transformers import AutoTokenizer

    model, theirs = pair
    head = objective(model.shape(), embed_dim=7)
    batch = {name: model.encoders[name].prepare(values) for name, values in (("image", PICTURES), ("text", TEXTS))}
    ours = head.embed(model.encode(batch))
    pixels = model.encoders["image"]._normalised(batch["image"])
    fills = "max_length" if theirs.config.model_type == "siglip" else True
    limits = {"padding": fills, "truncation": True, "max_length": 16}
    read = AutoTokenizer.from_pretrained(tmp_path)(TEXTS, **limits, return_tensors="pt")
    if fills == "max_length":  # as its processor, without a mask
        read = {"input_ids": read["input_ids"]}
    texts = features(theirs, **{key: read[key] for key in ("input_ids", "attention_mask") if key in read})
    torch.testing.assert_close(ours["image"], features(theirs, pixel_values=pixels), rtol=0, atol=1e-5)
    torch.testing.assert_close(ours["text"], texts, rtol=0, atol=1e-5)
    siglip = theirs.config.model_type == "siglip"
    # CLIP was trained without a bias, so that its scale is not one of the sigmoid loss.
    if objective is Contrastive or (objective is SigLip and siglip):
        assert head.log_scale.item() == pytest.approx(theirs.logit_scale.item())
    if objective is SigLip and siglip:
        assert head.bias.item() == pytest.approx(theirs.logit_bias.item())
    assert f"the projections of {tmp_path} (image, text)" in pretrained_heads(model, {"own": head}, ())["own"]
    assert model.encoders["text"].cut == 1


@torch.no_grad()
def test_pixels_are_those_of_the_models_processor(pair, tmp_path):
    from transformers import AutoImageProcessor

    model, _ = pair
    encoder = model.encoders["image"]
    made = AutoImageProcessor.from_pretrained(tmp_path)(PICTURES, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(encoder._normalised(encoder.prepare(PICTURES)), made, rtol=0, atol=0.02)


def test_heads_are_trained_and_random_or_incomplete_weights_have_none(pair, tmp_path):
    from safetensors.torch import load_file, save_file

    model, theirs = pair
    head = Contrastive(model.shape())
    clip = theirs.config.model_type == "clip"
    text = ["weight"] if clip else ["weight", "bias"]
    expected = {f"heads.text.{name}" for name in text} | ({"heads.image.weight"} if clip else set()) | {"log_scale"}
    assert {name for name, p in head.named_parameters() if p.requires_grad} == expected
    name = str(tmp_path)
    assert HuggingFaceImage(name, pretrained=False).pretrained_space is None
    assert HuggingFaceText(name, pretrained=False).pretrained_space is None
    assert HuggingFaceText(name, pooling="mean").pretrained_space is None
    node = {"_target_": f"{HuggingFaceText.__module__}.HuggingFaceText", "name": name, "weights": "outputs/a"}
    of_run = make_encoder(node)
    assert Model({"image": model.encoders["image"], "text": of_run}, NoFusion({})).shape().spaces == {}
    weights = load_file(tmp_path / "model.safetensors")
    lacking = "text_projection.weight" if clip else "text_model.head.weight"
    save_file({n: t for n, t in weights.items() if n != lacking}, tmp_path / "model.safetensors", {"format": "pt"})
    assert model_of(name).shape().spaces == {}


def test_a_clip_without_a_bias_starts_siglip_at_the_papers_scale_and_bias(tmp_path):
    saved(tmp_path, "clip", scale=4.6052)
    model = model_of(str(tmp_path))
    head = SigLip(model.shape(), embed_dim=7)
    assert head.logit_scale().item() == pytest.approx(10, rel=1e-5) and head.bias.item() == -10
    line = pretrained_heads(model, {"own": head}, ())["own"]
    assert line.endswith("logit scale 10, bias -10 (both of the objective: the pretrained model has no bias)")


def test_folders_of_transformers_refuse_texts_that_fill_the_context(tmp_path):
    saved(tmp_path / "model", "siglip")
    towers = {"text": SimpleNamespace(encoder=HuggingFaceText(str(tmp_path / "model")))}
    with pytest.raises(RequestError, match=r"the texts of text fill the context.*Choose --format onnx or torch"):
        hf_folders.write(SimpleNamespace(towers=towers), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@torch.no_grad()
def test_texts_of_siglip_say_which_tokens_are_no_padding_and_towers_do_not_take_it(tmp_path):
    saved(tmp_path, "siglip")
    model = model_of(str(tmp_path))
    text, head = model.encoders["text"], SigLip(model.shape())
    prepared = text.prepare(TEXTS)
    lengths = [min(len(text.tokenizer(value)["input_ids"]), 16) for value in TEXTS]
    assert prepared["mask"].all() and prepared["real"].sum(1).tolist() == lengths and lengths[0] < 16
    tower = Tower("text", model, head)
    assert tower.inputs == ("ids", "mask")
    expected = head.embed(model.encode({"text": prepared}))["text"]
    torch.testing.assert_close(tower(prepared["ids"], prepared["mask"]), expected, rtol=0, atol=1e-6)
