"""Named weights are loaded, or refused: prefixes, missing and unexpected names, other architectures, for every loader."""

import json
import re

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from mmexp.encoders.huggingface_audio import huggingface_audio
from mmexp.encoders.huggingface_space import huggingface_model
from mmexp.encoders.huggingface_text import HuggingFaceText
from mmexp.encoders.open_clip_image import OpenClipImage
from mmexp.encoders.open_clip_space import open_clip_model
from mmexp.encoders.open_clip_text import OpenClipText
from mmexp.encoders.timm_image import TimmImage
from mmexp.errors import RequestError
from mmexp.state_dicts import without_prefix

PREFIXES = ["module.", "_orig_mod.", "model.", "backbone.", "module._orig_mod.", "net.student."]


def equal(module: nn.Module, state: dict) -> bool:
    own = module.state_dict()
    return all(torch.equal(own[name], tensor) for name, tensor in state.items() if name in own)


@pytest.fixture(scope="module")
def vit() -> dict:
    import timm

    torch.manual_seed(1)
    return timm.create_model("test_vit").state_dict()


@pytest.mark.parametrize("prefix", PREFIXES)
def test_timm_weights_below_a_prefix_are_loaded(vit, prefix, tmp_path):
    torch.save({"state_dict": {prefix + name: tensor for name, tensor in vit.items()}}, tmp_path / "w.pth")
    encoder = TimmImage("test_vit", weights=str(tmp_path / "w.pth"))
    assert equal(encoder.model, vit) and encoder.pretrained
    # timm itself removes what DistributedDataParallel and torch.compile put there.
    assert "0 missing" in encoder.weights_report
    assert prefix.startswith(("module.", "_orig")) or f"prefix '{prefix}' removed" in encoder.weights_report


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: {n: t for n, t in w.items() if not n.startswith("blocks.0")}, "missing (blocks.0."),
        (lambda w: {f"layer{i}": t for i, t in enumerate(w.values())}, "0 loaded"),
        (
            lambda w: w | {"patch_embed.proj.weight": torch.zeros(8, 3, 16, 16)},
            "patch_embed.proj.weight is (8, 3, 16, 16) there",
        ),
        (
            lambda w: {f"{p}.{n}": t for p in ("student", "teacher") for n, t in w.items()},
            "'student.' and 'teacher.' fit",
        ),
    ],
)
def test_timm_weights_of_another_model_are_refused(vit, change, said, tmp_path):
    save_file({n: t.clone() for n, t in change(vit).items()}, tmp_path / "w.safetensors")
    with pytest.raises(RequestError, match=re.escape(said)) as caught:
        TimmImage("test_vit", weights=str(tmp_path / "w.safetensors"))
    assert "\n" not in str(caught.value)


def test_a_named_file_goes_before_the_weights_that_timm_knows(vit, tmp_path):
    torch.save(vit, tmp_path / "w.pth")
    encoder = TimmImage("test_vit.r160_in1k", pretrained=True, weights=str(tmp_path / "w.pth"))
    assert equal(encoder.model, vit) and "0 missing" in encoder.weights_report


def test_a_classifier_may_be_missing_and_what_is_unexpected_is_reported(vit, tmp_path):
    weights = {n: t for n, t in vit.items() if not n.startswith("head.")} | {"decoder.weight": torch.zeros(2)}
    torch.save(weights, tmp_path / "w.pth")
    encoder = TimmImage("test_vit", weights=str(tmp_path / "w.pth"))
    assert encoder.weights_report.endswith(
        f"{len(weights) - 1} tensors loaded, 0 missing, 1 unexpected (decoder.weight)"
    )


@pytest.fixture
def bert_folder(tmp_path):
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(1)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(tmp_path / "vocab.txt"), model_max_length=16).save_pretrained(tmp_path)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertModel(BertConfig(vocab_size=7, max_position_embeddings=16, **size))
    model.save_pretrained(tmp_path)
    return tmp_path, model.state_dict()


def renamed(folder, change) -> None:
    file = folder / "model.safetensors"
    save_file({name: t.clone() for name, t in change(load_file(file)).items()}, file, {"format": "pt"})


@pytest.mark.parametrize("prefix", ["", "bert.", "model.", "module.bert.", "0.auto_model."])
def test_text_folders_below_a_prefix_are_loaded(bert_folder, prefix):
    folder, weights = bert_folder
    renamed(folder, lambda w: {prefix + n: t for n, t in w.items()})
    encoder = HuggingFaceText(str(folder))
    assert equal(encoder.model, weights) and "0 missing" in encoder.weights_report
    assert prefix in ("", "bert.") or f"prefix '{prefix}' removed" in encoder.weights_report


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: {n: t for n, t in w.items() if "layer.1" not in n}, "missing (encoder.layer.1."),
        (lambda w: {f"layer{i}": t for i, t in enumerate(w.values())}, "does not hold the weights of this model"),
        (lambda w: w | {"embeddings.word_embeddings.weight": torch.zeros(9, 32)}, "is (9, 32) there and (7, 32) here"),
    ],
)
def test_text_folders_of_another_model_are_refused(bert_folder, change, said):
    folder, _ = bert_folder
    renamed(folder, change)
    with pytest.raises(RequestError, match=re.escape(said)) as caught:
        HuggingFaceText(str(folder))
    assert "\n" not in str(caught.value)


def test_a_text_folder_without_the_pooler_is_loaded(bert_folder):
    folder, weights = bert_folder
    renamed(folder, lambda w: {n: t for n, t in w.items() if "pooler" not in n} | {"cls.weight": torch.zeros(2)})
    encoder = HuggingFaceText(str(folder))
    assert equal(encoder.model, weights) and "1 unexpected (cls.weight)" in encoder.weights_report


@pytest.fixture
def wav2vec_folder(tmp_path):
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    torch.manual_seed(1)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    convolutions = {"conv_dim": (8, 8), "conv_stride": (5, 4), "conv_kernel": (10, 4), "num_conv_pos_embeddings": 4}
    model = Wav2Vec2Model(Wav2Vec2Config(**size, **convolutions, num_conv_pos_embedding_groups=2))
    model.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    return tmp_path


def test_audio_folders_are_loaded_below_a_prefix_or_refused(wav2vec_folder):
    renamed(wav2vec_folder, lambda w: {f"module.{n}": t for n, t in w.items() if n != "masked_spec_embed"})
    encoder = huggingface_audio(str(wav2vec_folder), seconds=0.1)
    assert "prefix 'module.' removed" in encoder.weights_report
    renamed(wav2vec_folder, lambda w: {n: t for n, t in w.items() if "pos_conv" not in n})
    with pytest.raises(RequestError, match=r"missing .*pos_conv_embed"):
        huggingface_audio(str(wav2vec_folder), seconds=0.1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    import open_clip

    folder = tmp_path_factory.mktemp("clip")
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = {"model_cfg": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(1)
    return folder, open_clip.create_model(f"local-dir:{folder}").state_dict()


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "model.module."])
def test_open_clip_folders_below_a_prefix_are_loaded(clip, prefix):
    folder, weights = clip
    torch.save({prefix + name: tensor for name, tensor in weights.items()}, folder / "open_clip_pytorch_model.bin")
    image, text = OpenClipImage(f"local-dir:{folder}"), OpenClipText(f"local-dir:{folder}")
    assert torch.equal(image.model.conv1.weight, weights["visual.conv1.weight"])
    assert torch.equal(text.model.token_embedding.weight, weights["token_embedding.weight"])
    assert image.pretrained and "0 missing" in image.weights_report and "0 missing" in text.weights_report


def test_an_open_clip_folder_that_lacks_a_layer_is_refused(clip):
    folder, weights = clip
    torch.save({n: t for n, t in weights.items() if "visual.ln_post" not in n}, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(RequestError, match=r"2 missing \(ln_post.weight, ln_post.bias\)"):
        OpenClipImage(f"local-dir:{folder}")
    assert OpenClipText(f"local-dir:{folder}").pretrained, "the other tower is whole"


def test_an_open_clip_folder_without_weights_is_not_taken_for_trained(clip):
    folder, _ = clip
    (folder / "open_clip_pytorch_model.bin").unlink(missing_ok=True)
    encoder = OpenClipImage(f"local-dir:{folder}")
    assert not encoder.pretrained and "random weights" in encoder.weights_report
    with pytest.raises(RequestError, match="no weights in this folder"):
        open_clip_model(f"local-dir:{folder}", ["image"])


def test_a_dual_encoder_of_transformers_that_lacks_a_projection_is_refused(tmp_path):
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
    }
    text = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 9,
    }
    config = transformers.CLIPConfig(vision_config=vision | {"patch_size": 16}, text_config=text, projection_dim=8)
    transformers.CLIPModel(config).save_pretrained(tmp_path)
    transformers.CLIPImageProcessorPil(crop_size=32, size={"shortest_edge": 32}).save_pretrained(tmp_path)
    renamed(tmp_path, lambda w: {n: t for n, t in w.items() if n != "text_projection.weight"})
    with pytest.raises(RequestError, match=r"missing \(text_projection.weight\)"):
        huggingface_model(str(tmp_path), ["image"])


def test_one_prefix_is_found_and_few_common_names_are_none():
    state = {"a.b.x": torch.zeros(1), "a.b.y": torch.zeros(1), "z": torch.zeros(1)}
    assert without_prefix(state, ["x", "y"])[1] == "a.b."
    assert set(without_prefix(state, ["x", "y"])[0]) == {"x", "y", "z"}
    assert without_prefix(state, ["x", *map(str, range(9))])[1] == ""
    assert without_prefix({"x": torch.zeros(1), "m.x": torch.zeros(1)}, ["x"])[1] == ""


def test_warnings_of_libraries_are_passed_on(capsys):
    import logging

    from mmexp.encoders.hub import in_folder

    with in_folder("x"):
        logging.getLogger("transformers.tokenization").warning("the tokenizer class is another\nsecond line")
        logging.getLogger("transformers").warning("Some weights were newly initialized")
    assert capsys.readouterr().err == "mmexp: transformers: the tokenizer class is another\n"
