"""Pictures are prepared as timm's and open_clip's own transforms of evaluations do it, for every mode and configuration."""

import json
from dataclasses import asdict

import numpy as np
import open_clip
import pytest
import timm
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from timm.data import create_transform, resolve_data_config

from mmexp.encoders.frames import FrameEncoder
from mmexp.encoders.open_clip_image import OpenClipImage
from mmexp.encoders.pictures import PictureTransform, mean_colour, open_clip_transform, timm_transform
from mmexp.encoders.timm_image import TimmImage

# Wide, high, small, of the size that is wanted, odd.
SHAPES = [(90, 40), (37, 101), (20, 24), (32, 32), (65, 64)]
TOLERANCE = 1e-3


def pictures(shapes=SHAPES):
    draws = np.random.default_rng(0)
    return [Image.fromarray(draws.integers(256, size=(high, wide, 3), dtype=np.uint8)) for wide, high in shapes]


def normalised(transform: PictureTransform, picture: Image.Image, mean, std) -> torch.Tensor:
    pixels = torch.from_numpy(np.asarray(transform(picture)).copy()).permute(2, 0, 1) / 255
    return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875, 0.9])
@pytest.mark.parametrize("crop_mode", ["center", "border", "squash"])
def test_a_timm_model_sees_what_timm_shows_it(crop_mode, crop_pct, interpolation, tmp_path):
    settings = {"crop_mode": crop_mode, "crop_pct": crop_pct, "interpolation": interpolation, "mean": [0.2, 0.4, 0.6]}
    torch.save(timm.create_model("resnet10t", channels=(8, 8, 8, 8)).state_dict(), tmp_path / "w.pth")
    options = {"channels": [8, 8, 8, 8]}
    encoder = TimmImage("resnet10t", 32, weights=str(tmp_path / "w.pth"), options=options, settings=settings)
    data = resolve_data_config({"input_size": (3, 32, 32)}, model=encoder.model)
    theirs = create_transform(**data, is_training=False)
    ours = encoder._normalised(encoder.prepare(pictures()))
    for own, picture in zip(ours, pictures(), strict=True):
        torch.testing.assert_close(own, theirs(picture), atol=TOLERANCE, rtol=0)


def test_every_pretrained_configuration_of_timm():
    seen = {}
    for name in timm.list_pretrained():
        data = resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        if data["input_size"][1] == data["input_size"][2] and data["input_size"][0] == 3:
            key = (data["input_size"][1] % 2, data["crop_pct"], data["crop_mode"], data["interpolation"], data["mean"])
            seen.setdefault(str(key), data)
    assert {one["interpolation"] for one in seen.values()} >= {"bilinear", "bicubic"}
    assert {one["crop_mode"] for one in seen.values()} >= {"center", "squash"}
    (picture,) = pictures([(90, 61)])
    for data in seen.values():
        data = {**data, "input_size": (3, 64 + data["input_size"][1] % 2, 64 + data["input_size"][1] % 2)}
        theirs = create_transform(**data, is_training=False)(picture)
        transform = timm_transform(data["input_size"][1], data, None, True, [])
        ours = normalised(transform, picture, data["mean"], data["std"])
        torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0, msg=str(data))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [32, 33])
def test_open_clip_transforms(size, mode, interpolation):
    config = PreprocessCfg(size=size, resize_mode=mode, interpolation=interpolation, fill_color=40)
    theirs, ours = image_transform_v2(config, is_train=False), open_clip_transform(size, asdict(config), None, True)
    for picture in pictures():
        own = normalised(ours, picture, config.mean, config.std)
        torch.testing.assert_close(own, theirs(picture), atol=TOLERANCE, rtol=0)


def clip_folder(folder, preprocess) -> str:
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = {"model_cfg": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}")
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return f"local-dir:{folder}"


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_an_open_clip_folder_states_its_own_transform(mode, tmp_path):
    name = clip_folder(tmp_path, {"resize_mode": mode, "interpolation": "bilinear", "mean": [0.5, 0.4, 0.3]})
    theirs = open_clip.create_model_and_transforms(name)[2]
    encoder = OpenClipImage(name)
    ours = encoder._normalised(encoder.prepare(pictures()))
    for own, picture in zip(ours, pictures(), strict=True):
        torch.testing.assert_close(own, theirs(picture), atol=TOLERANCE, rtol=0)


def long_picture() -> Image.Image:
    """A white picture, four times as wide as high, with a red left and a blue right end."""
    picture = Image.new("RGB", (128, 32), "white")
    picture.paste("red", (0, 0, 16, 32))
    picture.paste("blue", (112, 0, 128, 32))
    return picture


def sees_the_ends(pixels: torch.Tensor) -> bool:
    red, _, blue = pixels.int()
    return bool(((red > 200) & (blue < 60)).any() and ((blue > 200) & (red < 60)).any())


@pytest.mark.parametrize(("fit", "ends"), [(None, True), ("pad", True), ("squash", True), ("crop", False)])
def test_a_tower_from_scratch_sees_long_pictures_whole_by_default(fit, ends):
    options = {"channels": [8, 8, 8, 8]}
    image = TimmImage("resnet10t", 32, options=options, fit=fit)
    (pixels,) = image.prepare([long_picture()])["pixels"]
    assert sees_the_ends(pixels) is ends
    if fit in (None, "pad"):
        assert tuple(pixels[:, 0, 0].tolist()) == mean_colour(image.mean), "borders are near zero when normalised"
        assert image._normalised({"pixels": pixels[None]})[0, :, 0, 0].abs().max() < 0.01
    frames = FrameEncoder(image, frames=2, heads=2).prepare([[long_picture()] * 2])["frames"]
    assert sees_the_ends(frames[0, 1]) is ends


def test_trained_towers_crop_as_they_were_trained_unless_asked_otherwise(tmp_path):
    name = clip_folder(tmp_path, {})
    assert not sees_the_ends(OpenClipImage(name).prepare([long_picture()])["pixels"][0])
    assert sees_the_ends(OpenClipImage(name, fit="pad").prepare([long_picture()])["pixels"][0])
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "w.pth")
    trained = TimmImage("test_vit", weights=str(tmp_path / "w.pth"))
    assert (trained.transform.fit, trained.transform.crop_pct < 1) == ("crop", True)
    padded = TimmImage("test_vit", weights=str(tmp_path / "w.pth"), fit="pad")
    assert (padded.transform.fit, padded.transform.crop_pct) == ("pad", 1.0)


def test_pictures_of_one_pixel_and_of_extreme_proportions():
    for fit in ("crop", "pad", "squash"):
        for size in [(1, 1), (1, 500), (500, 1)]:
            assert PictureTransform(32, fit)(Image.new("RGB", size)).size == (32, 32)


def test_a_larger_image_size_resamples_trained_positions(tmp_path):
    name = clip_folder(tmp_path, {})
    encoder = OpenClipImage(name, image_size=64)
    theirs = open_clip.create_model(name, force_image_size=64, force_custom_text=True).visual
    assert (encoder.image_size, encoder.grid) == (64, (4, 4)) and "0 missing" in encoder.weights_report
    torch.testing.assert_close(encoder.model.positional_embedding.data, theirs.positional_embedding.data)
    own = timm.create_model("test_vit")
    torch.save(own.state_dict(), tmp_path / "w.pth")
    larger = TimmImage("test_vit", 224, weights=str(tmp_path / "w.pth"))
    from timm.layers import resample_abs_pos_embed

    wanted = resample_abs_pos_embed(own.pos_embed, [14, 14], num_prefix_tokens=own.num_prefix_tokens)
    torch.testing.assert_close(larger.model.pos_embed.data, wanted.data, atol=1e-5, rtol=1e-4)
