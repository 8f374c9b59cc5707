"""Weights of towers that are alike in shape alone: other positions, other heads, another way of being fed."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mmexp import build
from mmexp.build.towers import _otherwise, other_heads
from mmexp.compose import compose, resolved
from mmexp.encoders.audio_cnn import AudioCnn
from mmexp.encoders.audio_spectrogram_transformer import AudioSpectrogramTransformer
from mmexp.encoders.frames import FrameEncoder
from mmexp.encoders.spectrogram import SpectrogramTransformer
from mmexp.encoders.timm_image import TimmImage
from mmexp.encoders.transformer import Transformer
from mmexp.errors import RequestError
from mmexp.shapes import Supervision, TeacherShape
from mmexp.weights import misfit, read_weights

SMALL = ("encoder.image.options.depth=1", "encoder.text.depth=1", "fusion=none", "objective=contrastive")
VIT = {"patch_size": 16, "embed_dim": 48, "depth": 1, "num_heads": 3}


def assembled(*overrides: str) -> build.Assembled:
    config, _ = resolved(compose([*SMALL, *overrides]))
    return build.assemble(config, ["image", "text"], Supervision(), TeacherShape())


def saved(made: build.Assembled, path: Path) -> Path:
    from safetensors.torch import save_file

    whole = nn.ModuleDict({"model": made.model, "objectives": nn.ModuleDict(made.objectives)})
    save_file({name: tensor.contiguous() for name, tensor in whole.state_dict().items()}, path)
    return path


@pytest.mark.parametrize("tower", ["text", "image"])
def test_a_bare_file_tells_with_which_positions_it_was_trained(tower, tmp_path):
    kinds = ("learned", "sine", "relative", "rotary")
    for there in kinds:
        made = assembled(f"encoder.{tower}.positions={there}")
        file = saved(made, tmp_path / f"{there}.safetensors")
        for here in kinds:
            request = (f"encoder.{tower}.positions={here}", f"init_from={file}")
            if here != there:
                with pytest.raises(RequestError, match=f"encoders.{tower} is there and does not fit"):
                    assembled(*request)
                continue
            loaded = assembled(*request).loaded
            assert loaded is not None and f"encoders.{tower}" in loaded.parts


def test_learned_positions_have_the_weights_they_had():
    base = read_weights(build.ASSETS / "base" / "vit.safetensors")
    for name, made in {"text": Transformer(depth=2), "audio": SpectrogramTransformer()}.items():
        assert not [own for own in made.state_dict() if "positions_" in own]
        wanted = {
            key.removeprefix(f"model.encoders.{name}.") for key in base if key.startswith(f"model.encoders.{name}.")
        }
        assert not wanted or set(made.state_dict()) == wanted


@pytest.mark.parametrize(
    "make",
    [
        lambda kind: Transformer(dim=24, depth=1, positions=kind),
        lambda kind: SpectrogramTransformer(dim=24, depth=1, positions=kind),
        lambda kind: TimmImage("vit_tiny_patch16_224", 64, options=VIT, positions=kind),
        lambda kind: FrameEncoder(TimmImage("vit_tiny_patch16_224", 64, options=VIT, positions=kind), pool="mean"),
    ],
)
def test_two_fixed_tables_are_two(make):
    sine, rotary = make("sine").state_dict(), make("rotary").state_dict()
    assert "positions_" in str(misfit(sine, rotary)) and misfit(sine, make("sine").state_dict()) is None


def test_the_base_leaves_a_tower_of_other_heads_fresh():
    with pytest.raises(RequestError) as refusal:
        assembled("encoder.image.options.depth=4", "encoder.text.depth=2", "encoder.text.heads=6", "adapter=lora")
    assert "encoders.text has none (it has 3 heads of attention there and 6 here)" in str(refusal.value)
    whole = ("encoder.image.options.depth=4", "encoder.text.depth=2", "adapter=lora")
    loaded = assembled(*whole).loaded
    assert loaded is not None and {"encoders.image", "encoders.text"} <= set(loaded.parts)


def test_heads_are_found_in_vision_transformers_too():
    one, two = (TimmImage("vit_tiny_patch16_224", 64, options={**VIT, "num_heads": n}) for n in (3, 4))
    assert other_heads(one, two) == "it has 4 heads of attention there and 3 here"
    assert other_heads(one, one) is None


def test_the_base_does_not_go_over_weights_that_were_named(tmp_path):
    deep = ("encoder.image.options.depth=4", "encoder.text.depth=2")
    own = TimmImage("vit_tiny_patch16_224", 64, stem=[24, 48, 96, 192], options=dict(compose([]).encoder.image.options))
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.fill_(0.5)
    from safetensors.torch import save_file

    file = tmp_path / "mine.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in own.model.state_dict().items()}, file)
    made = assembled(*deep, "adapter=lora", f"encoder.image.weights={file}")
    image = made.model.encoders["image"]
    held = {name: parameter for name, parameter in image.named_parameters() if "lora" not in name}
    assert held and all(parameter.eq(0.5).all() for parameter in held.values())
    assert made.towers == {"image": f"{file}: 73 tensors loaded, 0 missing, 0 unexpected"} and made.loaded is not None
    assert made.loaded.fresh["encoders.image"] == "it comes with weights of its own"
    assert "encoders.text" in made.loaded.parts


def picture(**settings) -> TimmImage:
    return TimmImage("resnet10t", 32, options={"channels": [6, 12, 12, 12]}, settings=settings)


def ast(deviation: float) -> AudioSpectrogramTransformer:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    made = AudioSpectrogramTransformer(None, options={**sizes, "max_length": 32, "num_mel_bins": 16})
    made.deviation = deviation
    return made


SOUND = {"name": "resnet10t", "rate": 4000, "options": {"channels": [8, 8, 8, 8]}}


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (lambda: FrameEncoder(picture()), lambda: FrameEncoder(picture(mean=[0.1, 0.1, 0.1])), "mean"),
        (lambda: FrameEncoder(picture()), lambda: FrameEncoder(picture(crop_pct=0.5)), "settings.crop_pct"),
        (lambda: FrameEncoder(picture(), 4, "mean"), lambda: FrameEncoder(picture(), 8, "mean"), "frames"),
        (lambda: ast(1.0), lambda: ast(2.0), "deviation"),
        (lambda: AudioCnn(**SOUND, seconds=2.0), lambda: AudioCnn(**SOUND, seconds=1.0), "length"),
        (lambda: AudioCnn(**SOUND, mels=64), lambda: AudioCnn(**SOUND, mels=32), "spectrogram_size"),
    ],
)
def test_what_is_fed_otherwise_is_told(one, other, said):
    assert _otherwise(one(), one()) is None
    assert str(_otherwise(one(), other())).startswith(f"{said} is ")
    assert misfit(one().state_dict(), other().state_dict()) is None, "else the shapes would tell"
