"""How many tokens text towers read, and how they are pooled."""

import json
import re

import pytest
import torch
from test_picture_transforms import clip_folder

from mmexp.encoders.huggingface_text import HuggingFaceText
from mmexp.encoders.open_clip_text import OpenClipText
from mmexp.errors import RequestError

LONG = "a cat " * 40


@pytest.fixture(scope="module")
def roberta_folder(tmp_path_factory):
    """A RoBERTa of 20 positions, whose tokenizer states no limit."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

    folder = tmp_path_factory.mktemp("roberta")
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    RobertaModel(RobertaConfig(vocab_size=6, max_position_embeddings=20, **size)).save_pretrained(folder)
    words = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", "a", "cat"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    marks = {"bos_token": "<s>", "cls_token": "<s>", "sep_token": "</s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", **marks).save_pretrained(
        folder
    )
    return folder


def test_roberta_reads_two_tokens_less_than_it_has_positions(roberta_folder):
    encoder = HuggingFaceText(str(roberta_folder)).eval()
    assert encoder.context == 18
    encoded = encoder(encoder.prepare([LONG, ""]))
    assert encoded.tokens.shape[1] == 18 and encoded.pooled.isfinite().all()
    with pytest.raises(RequestError, match="context_length=19 is more than the 18 tokens"):
        HuggingFaceText(str(roberta_folder), context_length=19)
    assert HuggingFaceText(str(roberta_folder), context_length=7).prepare([LONG])["ids"].shape == (1, 7)


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_pooling_takes_real_tokens_alone(roberta_folder, pooling):
    from transformers import AutoModel, AutoTokenizer

    encoder = HuggingFaceText(str(roberta_folder), pooling=pooling).eval()
    model, tokenizer = AutoModel.from_pretrained(roberta_folder).eval(), AutoTokenizer.from_pretrained(roberta_folder)
    pooled = encoder(encoder.prepare(["a cat", "a"])).pooled
    for own, text in zip(pooled, ["a cat", "a"], strict=True):
        tokens = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        wanted = {"cls": tokens[0], "last": tokens[-1], "mean": tokens.mean(0)}[pooling]
        torch.testing.assert_close(own, wanted, atol=1e-5, rtol=1e-4)


def test_a_folder_of_sentence_transformers_states_its_pooling(roberta_folder):
    file = roberta_folder / "1_Pooling" / "config.json"
    file.parent.mkdir(exist_ok=True)
    try:
        for mode, pooling in (("cls_token", "cls"), ("mean_tokens", "mean"), ("lasttoken", "last")):
            file.write_text(json.dumps({"word_embedding_dimension": 16, f"pooling_mode_{mode}": True}))
            assert HuggingFaceText(str(roberta_folder)).pooling == pooling
        file.write_text(json.dumps({"pooling_mode_max_tokens": True}))
        with pytest.raises(RequestError, match=re.escape("Set encoder.text.pooling=cls, mean or last")):
            HuggingFaceText(str(roberta_folder))
        assert HuggingFaceText(str(roberta_folder), pooling="mean").pooling == "mean"
    finally:
        file.unlink()
        file.parent.rmdir()


def test_the_context_of_open_clip_may_be_shorter_or_longer(tmp_path):
    import open_clip

    name = clip_folder(tmp_path, {})
    own = OpenClipText(name).eval()
    short, long = OpenClipText(name, context_length=5).eval(), OpenClipText(name, context_length=12).eval()
    assert (own.context, short.context, long.context) == (8, 5, 12)
    theirs = open_clip.create_model(name, force_context_length=12, force_custom_text=True).text
    torch.testing.assert_close(long.model.positional_embedding.data, theirs.positional_embedding.data)
    assert [e.prepare([LONG])["ids"].shape[1] for e in (short, own, long)] == [5, 8, 12]
    torch.testing.assert_close(short(short.prepare(["a"])).pooled, own(own.prepare(["a"])).pooled)
    assert long(long.prepare([LONG])).pooled.isfinite().all()


def test_a_dual_encoder_of_transformers_cuts_long_texts(roberta_folder, tmp_path):
    from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessorPil, CLIPModel

    from mmexp.encoders.huggingface_space import huggingface_model

    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = size | {"image_size": 32, "patch_size": 16}
    text = size | {"vocab_size": 9, "max_position_embeddings": 10, "bos_token_id": 0, "eos_token_id": 2}
    CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=8)).save_pretrained(tmp_path)
    CLIPImageProcessorPil(crop_size=32, size={"shortest_edge": 32}).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(roberta_folder).save_pretrained(tmp_path)
    towers, _ = huggingface_model(str(tmp_path), ["text"])
    tower = towers["text"]
    assert tower(tower.prepare([LONG, "a"])).pooled.isfinite().all()
