"""Vision transformers of transformers as picture towers: which tokens, which size, which pooling."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmexp.encoders.huggingface_image import HuggingFaceImage
from mmexp.encoders.image_processors import huggingface_transform, normalisation, processor_size
from mmexp.errors import RequestError

VISION = {"image_size": 32, "patch_size": 8, "hidden_size": 48, "intermediate_size": 64}
VISION |= {"num_hidden_layers": 2, "num_attention_heads": 2}
DRAWS = np.random.default_rng(0)
PICTURES = [Image.fromarray(DRAWS.integers(256, size=(*size, 3), dtype=np.uint8)) for size in ((40, 52), (64, 64))]


def stored(folder, kind: str, model: str | None = None, processor: str = "ViT", made=None, **options):
    """Write a small random model of `kind`, as its class `model`, and its image processor; return it."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**VISION | options)
    theirs = getattr(transformers, model or f"{kind}Model")(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    theirs.save_pretrained(folder)
    made = made or {"size": {"height": 32, "width": 32}}
    getattr(transformers, f"{processor}ImageProcessor")(**made).save_pretrained(folder)
    return theirs


@torch.no_grad()
def encoded(folder):
    encoder = HuggingFaceImage(str(folder)).eval()
    prepared = encoder.prepare(PICTURES)
    return encoder, encoder(prepared), encoder._normalised(prepared)


@torch.no_grad()
def test_a_vision_transformer_alone_is_a_picture_tower(tmp_path):
    theirs = stored(tmp_path, "ViT")
    encoder, ours, pixels = encoded(tmp_path)
    out = theirs(pixel_values=pixels)
    assert ours.tokens.shape == (2, 16, 48) and encoder.grid == (4, 4) and encoder.pretrained_space is None
    torch.testing.assert_close(ours.pooled, out.pooler_output, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.tokens, out.last_hidden_state[:, 1:], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_masked_autoencoder_sees_all_patches_as_the_same_vision_transformer(tmp_path):
    from transformers import ViTConfig, ViTModel

    theirs = stored(tmp_path, "ViTMAE")
    _, ours, pixels = encoded(tmp_path)
    plain = ViTModel(ViTConfig(**VISION), add_pooling_layer=False).eval()
    plain.load_state_dict(theirs.state_dict(), strict=False)
    expected = plain(pixel_values=pixels).last_hidden_state
    torch.testing.assert_close(ours.tokens, expected[:, 1:], rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.pooled, expected[:, 1:].mean(1), rtol=0, atol=1e-5)


def test_patches_dropped_at_random_and_tokens_behind_the_patches_are_refused(tmp_path, monkeypatch):
    from transformers import ViTModel

    stored(tmp_path / "vit", "ViT")
    whole = ViTModel.forward

    def dropping(self, pixel_values=None, **options):
        out = whole(self, pixel_values, **options)
        out.last_hidden_state = out.last_hidden_state[:, torch.randperm(17)[:5].sort().values]
        return out

    monkeypatch.setattr(ViTModel, "forward", dropping)
    torch.manual_seed(0)
    with pytest.raises(RequestError, match="drops or shuffles patches at random"):
        HuggingFaceImage(str(tmp_path / "vit"))
    stored(tmp_path / "yolos", "Yolos", num_detection_tokens=7, image_size=[32, 32])
    with pytest.raises(RequestError, match="gives 24 tokens of 16 patches"):
        HuggingFaceImage(str(tmp_path / "yolos"))


@pytest.mark.parametrize("kind", ["Dinov2", "ViT", "DeiT"])
@torch.no_grad()
def test_pictures_have_the_size_of_the_processor_and_positions_are_interpolated(tmp_path, kind):
    from transformers import AutoImageProcessor

    processor = "DeiT" if kind == "DeiT" else "Bit"
    size = {"height": 28, "width": 28} if kind == "DeiT" else {"shortest_edge": 28}
    theirs = stored(tmp_path, kind, processor=processor, made={"size": size, "crop_size": {"height": 24, "width": 24}})
    encoder, ours, pixels = encoded(tmp_path)
    assert encoder.image_size == 24 and encoder.grid == (3, 3)
    options = {} if kind == "Dinov2" else {"interpolate_pos_encoding": True}
    out = theirs(pixel_values=pixels, **options)
    torch.testing.assert_close(ours.tokens, out.last_hidden_state[:, -9:], rtol=0, atol=1e-5)
    made = AutoImageProcessor.from_pretrained(tmp_path)
    made = torch.cat([made(picture, return_tensors="pt")["pixel_values"] for picture in PICTURES])
    torch.testing.assert_close(pixels, made, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("stated", "size", "fit"),
    [
        (
            {"size": {"shortest_edge": 30}, "crop_size": {"height": 24, "width": 24}, "do_center_crop": False},
            30,
            "crop",
        ),
        ({"size": {"height": 30, "width": 30}, "image_mean": None}, 30, "squash"),
        ({"do_normalize": False, "image_mean": [0.4] * 3}, None, "squash"),
        ({"size": 30, "do_center_crop": True, "crop_size": 24, "image_mean": 0.4, "image_std": 0.2}, 24, "squash"),
    ],
)
def test_processors_without_a_mean_a_crop_or_a_normalisation(stated, size, fit):
    assert processor_size(stated, "own") == size
    mean, std = normalisation(stated)
    level = 0.0 if "do_normalize" in stated else stated.get("image_mean") or 0.5
    assert mean == [level] * 3 and len(std) == 3
    transform = huggingface_transform(size or 32, stated, mean, None, True)
    assert (transform.size, transform.fit) == (size or 32, fit)
    with pytest.raises(RequestError, match="makes pictures of 20 x 30 pixels"):
        processor_size({"size": {"height": 20, "width": 30}}, "own")


@torch.no_grad()
def test_weights_without_a_pooler_are_pooled_by_the_class_token(tmp_path):
    theirs = stored(tmp_path, "ViT", "ViTForImageClassification")
    encoder, ours, pixels = encoded(tmp_path)
    expected = theirs.vit(pixel_values=pixels).last_hidden_state[:, 0]
    torch.testing.assert_close(ours.pooled, expected, rtol=0, atol=1e-5)
    assert encoder.weights_report.endswith("; pooled by the class token")
