"""Encoders that need no network: the form of their output, their preparation, their answers to mistakes."""

import json
import pickle
import re
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image
from tokenizers import processors
from torch import nn

from mmexp.attention import attention
from mmexp.encoders.huggingface_text import HuggingFaceText
from mmexp.encoders.open_clip_image import OpenClipImage
from mmexp.encoders.open_clip_text import OpenClipText
from mmexp.encoders.timm_image import TimmImage
from mmexp.encoders.transformer import Transformer
from mmexp.errors import RequestError
from mmexp.objectives.captioner import sentences

CONF = Path(__file__).parents[2] / "conf"
WORDS = ["a", "red", "cat", "sits", "on", "the", "moon", "and", "looks", "down"]
CAPTIONS = ["a red cat", "the moon and the cat sits on the moon"]
BUNDLED = Path(__file__).parents[2] / "mmexp/data/assets/tokenizer.json"


def words_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    marks = ["[PAD]", "[MASK]", "[BOS]", "[EOS]", "[UNK]"]
    vocabulary = {word: i for i, word in enumerate([*marks, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 2), ("[EOS]", 3)]
    )
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    words_tokenizer().save(str(path))
    return str(path)


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory):
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=15, max_position_embeddings=16, **size)).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words_tokenizer(),
        pad_token="[PAD]",
        mask_token="[MASK]",
        cls_token="[BOS]",
        sep_token="[EOS]",
        unk_token="[UNK]",
        model_max_length=16,
    )
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def gpt_folder(tmp_path_factory):
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("gpt")
    GPT2Model(GPT2Config(vocab_size=15, n_positions=16, n_embd=32, n_layer=1, n_head=2)).save_pretrained(folder)
    tokenizer = words_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A")
    marks = {"eos_token": "[EOS]", "bos_token": "[EOS]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=16, **marks).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
    text = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
    config = {"model_cfg": {"embed_dim": 48, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


def from_conf(tmp_path_factory, *overrides):
    root = tmp_path_factory.mktemp("root")
    (root / "root.yaml").write_text("defaults:\n  - encoder: vit\n  - _self_\n")
    with initialize_config_dir(str(root), version_base="1.3"):
        return compose("root", overrides=[f"hydra.searchpath=[file://{CONF}]", *overrides]).encoder


@pytest.fixture(scope="session", params=["vit", "swin", "cnn", "resnet10t", "mobilenetv3_small_050", "open_clip"])
def image_encoder(request, tmp_path_factory, clip_folder):
    if request.param in ("vit", "swin", "cnn"):
        chosen = from_conf(tmp_path_factory, f"encoder={request.param}").image
        return instantiate(chosen, _convert_="all")
    torch.manual_seed(0)
    return OpenClipImage(clip_folder) if request.param == "open_clip" else TimmImage(request.param, 64)


@pytest.fixture(scope="session", params=["transformer", "huggingface", "open_clip"])
def text_encoder(request, tokenizer_file, bert_folder, clip_folder):
    torch.manual_seed(0)
    if request.param == "transformer":
        return Transformer(dim=48, heads=3, context_length=16, tokenizer=tokenizer_file)
    return HuggingFaceText(bert_folder) if request.param == "huggingface" else OpenClipText(clip_folder)


def pictures(*sizes):
    generator = torch.Generator().manual_seed(0)
    every = [torch.randint(256, (h, w, 3), generator=generator, dtype=torch.uint8) for w, h in sizes]
    return [Image.fromarray(pixels.numpy()) for pixels in every]


def check_form(encoder, encoded, batch):
    assert encoded.pooled.shape == (batch, encoder.dim)
    assert encoded.tokens.shape == (*encoded.mask.shape, encoder.dim)
    assert encoded.mask.dtype == torch.bool


def check_gradients(encoder, prepared):
    encoder.train()
    encoded = encoder(prepared)
    (encoded.tokens.square().sum() + encoded.pooled.square().sum()).backward()
    assert not [name for name, p in encoder.named_parameters() if p.grad is None]
    encoder.zero_grad()


def check_targets(encoder):
    layers = [name for name, m in encoder.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert any(re.fullmatch(encoder.adapter_targets, name) for name in layers)


def test_image_encoders(image_encoder):
    size = image_encoder.image_size
    prepared = image_encoder.prepare(pictures((size, size), (size + 9, size), (40, 90)))
    assert prepared["pixels"].shape == (3, 3, size, size)
    assert prepared["pixels"].dtype == torch.uint8
    image_encoder.eval()
    with torch.no_grad():
        encoded = image_encoder(prepared)
        floats = image_encoder({"pixels": prepared["pixels"].float() / 255})
    check_form(image_encoder, encoded, 3)
    assert encoded.mask.all()
    assert image_encoder.grid[0] * image_encoder.grid[1] == encoded.mask.shape[1]
    torch.testing.assert_close(floats.pooled, encoded.pooled)
    check_targets(image_encoder)
    check_gradients(image_encoder, prepared)


def test_pictures_of_the_right_size_stay_as_they_are(image_encoder):
    (picture,) = pictures((image_encoder.image_size,) * 2)
    pixels = image_encoder.prepare([picture])["pixels"][0]
    assert pixels.permute(1, 2, 0).numpy().tobytes() == picture.tobytes()


def test_text_encoders(text_encoder):
    prepared = text_encoder.prepare(CAPTIONS)
    assert prepared["ids"].shape == prepared["mask"].shape
    assert prepared["mask"].any(0).all()
    encoded = text_encoder(prepared)
    check_form(text_encoder, encoded, 2)
    assert 0 <= text_encoder.mask_token_id < text_encoder.vocab_size
    check_targets(text_encoder)
    check_gradients(text_encoder, prepared)


def test_ids_turn_back_into_texts(text_encoder):
    prepared = text_encoder.prepare(CAPTIONS)
    ids, real = sentences(prepared, text_encoder.marks)
    assert torch.equal(ids, prepared["ids"]) and torch.equal(real, prepared["mask"]), (
        "both marks are the tokenizer's own"
    )
    assert text_encoder.decode(ids) == CAPTIONS
    # As a decoder writes it: the begin mark is not in it, and what follows the end mark is nothing.
    ids[:, -1] = ids[0, 1]
    assert text_encoder.decode(ids[:1, 1:]) == CAPTIONS[:1]
    assert text_encoder.context == 16


def test_a_tokenizer_without_marks_ends_by_padding(gpt_folder):
    encoder = HuggingFaceText(gpt_folder)
    ids, real = sentences(encoder.prepare(CAPTIONS), encoder.marks)
    assert ids[:, 0].tolist() == [encoder.marks.begin] * 2
    assert real.sum(1).tolist() == [5, 11]
    assert ids[0, 4] == ids[1, 10] == encoder.marks.end
    assert encoder.decode(ids) == CAPTIONS


def test_padding_does_not_change_a_text(text_encoder):
    text_encoder.eval()
    with torch.no_grad():
        alone = text_encoder(text_encoder.prepare(CAPTIONS[:1]))
        beside = text_encoder(text_encoder.prepare(CAPTIONS))
    torch.testing.assert_close(beside.pooled[:1], alone.pooled, atol=1e-5, rtol=1e-4)


def test_long_texts_are_cut_and_counted(text_encoder):
    before = text_encoder.cut
    prepared = text_encoder.prepare(["a red cat", "a cat " * 20])
    assert text_encoder.cut == before + 1
    assert prepared["ids"].shape == (2, 16)
    assert prepared["ids"][1, -1] == prepared["ids"][0, prepared["mask"][0].sum() - 1], "the end mark stays"


def test_encoders_travel_to_workers(text_encoder):
    again = pickle.loads(pickle.dumps(text_encoder))
    assert torch.equal(again.prepare(CAPTIONS)["ids"], text_encoder.prepare(CAPTIONS)["ids"])


def test_open_clip_text_equals_open_clip(clip_folder):
    import open_clip

    torch.manual_seed(0)
    whole = open_clip.create_model(clip_folder, force_custom_text=True).eval()
    encoder = OpenClipText(clip_folder).eval()
    encoder.model.load_state_dict(whole.text.state_dict(), strict=False)
    with torch.no_grad():
        ours = encoder(encoder.prepare(CAPTIONS)).pooled @ whole.text.text_projection
        theirs = whole.encode_text(open_clip.get_tokenizer(clip_folder)(CAPTIONS))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_both_ways_of_attention_agree():
    query, key, value = torch.randn(3, 2, 3, 7, 16).unbind()
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    exact = attention(query, key, value, mask)
    plain = attention(query.bfloat16(), key.bfloat16(), value.bfloat16(), mask)
    torch.testing.assert_close(plain.float(), exact, atol=0.05, rtol=0.05)


def test_weights_from_a_file(tmp_path):
    from safetensors.torch import save_file

    first = TimmImage("test_vit")
    save_file({n: t.contiguous() for n, t in first.model.state_dict().items()}, tmp_path / "weights.safetensors")
    second = TimmImage("test_vit", weights=str(tmp_path / "weights.safetensors"))
    assert second.pretrained
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_tower_is_swapped_alone(tmp_path_factory):
    chosen = from_conf(tmp_path_factory, "encoder=cnn", "encoder/text=bert")
    assert chosen.image.name == "resnet10t"
    assert chosen.text._target_.endswith("HuggingFaceText")


def test_the_bundled_tokenizer():
    encoder = Transformer(depth=1)
    assert (encoder.pad_token_id, encoder.mask_token_id) == (0, 1)
    assert encoder.prepare(["A Cat"])["ids"].tolist() == encoder.prepare(["a cat"])["ids"].tolist()


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: TimmImage("resnet10"), "Did you mean 'resnet10t'"),
        (lambda: TimmImage("resnet10t", options={"depth": 3}), "could not build"),
        (lambda: TimmImage("resnet10t", weights="nowhere.pth"), "no file 'nowhere.pth'"),
        (lambda: OpenClipImage("ViT-B-33"), "Did you mean 'ViT-B-32'"),
        (lambda: OpenClipText("ViT-B-32", "nowhere.pt"), "neither a file nor a tag"),
        (lambda: Transformer(tokenizer="nowhere.json"), "no file 'nowhere.json'"),
    ],
)
def test_mistakes_are_answered(build, said):
    with pytest.raises(RequestError, match=re.escape(said)) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(RequestError, match="neither a folder with a model"):
        HuggingFaceText(str(tmp_path))


def test_text_encoders_tell_of_words_where_their_tokenizer_does(text_encoder):
    edges = text_encoder.word_edges
    # The tokenizer of the other two knows whole words alone, and marks none.
    if isinstance(text_encoder, OpenClipText):
        assert edges.shape == (2, text_encoder.vocab_size) and edges[1].any()
    else:
        assert edges is None


def test_what_is_added_to_words_makes_other_words_of_them(text_encoder):
    torch.manual_seed(0)
    text_encoder.eval()
    one, other = (text_encoder.prepare([text]) for text in ("a red cat", "the red moon"))
    assert one["ids"].shape == other["ids"].shape and not torch.equal(one["ids"], other["ids"])
    (words,) = [m for m in text_encoder.modules() if getattr(m, "num_embeddings", 0) == text_encoder.vocab_size]
    added = (words(other["ids"]) - words(one["ids"])).detach().requires_grad_()
    assert added.shape[-1] == text_encoder.word_dim
    ours, theirs = text_encoder({**one, "added": added}), text_encoder(other)
    torch.testing.assert_close(ours.pooled, theirs.pooled, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.tokens, theirs.tokens, atol=1e-5, rtol=1e-4)
    ours.pooled.square().sum().backward()
    assert added.grad.abs().sum() > 0
