"""Small models in folders, with random weights: in place of those that would be downloaded."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

_SIZE: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}
_WORDS = 32


def write_stand_ins(folder: Path) -> dict[str, str]:
    """Return, by what each stands for, the names of small models that are written below `folder`."""
    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
    text = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
    # As SigLIP's: a timm model, and a text tower that looks both ways.
    trunk = {"image_size": 32, "timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "linear"}
    both_ways = {**text, "no_causal_mask": True, "pool_type": "last"}
    return {
        "open_clip": _open_clip(folder / "open_clip", vision, text),
        "siglip": _open_clip(folder / "siglip", trunk, both_ways),
        "bert": _bert(folder / "bert"),
        "distilbert": _distilbert(folder / "distilbert"),
        "clip": _clip(folder / "clip"),
        "wav2vec2": _wav2vec2(folder / "wav2vec2"),
    }


def _open_clip(folder: Path, vision: dict[str, Any], text: dict[str, Any]) -> str:
    folder.mkdir()
    model = {"embed_dim": 48, "vision_cfg": vision, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    return f"local-dir:{folder}"


def _words(folder: Path) -> int:
    """Write the bundled tokenizer as one of transformers; return how many pieces it has."""
    from transformers import PreTrainedTokenizerFast

    file: Any = files("mmexp") / "data" / "assets" / "tokenizer.json"
    marks = {"pad_token": "[PAD]", "mask_token": "[MASK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file), model_max_length=_WORDS, **marks)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def _bert(folder: Path) -> str:
    from transformers import BertConfig, BertModel

    BertModel(BertConfig(vocab_size=_words(folder), max_position_embeddings=_WORDS, **_SIZE)).save_pretrained(folder)
    return str(folder)


def _distilbert(folder: Path) -> str:
    from transformers import DistilBertConfig, DistilBertModel

    size: dict[str, Any] = {"n_layers": 2, "n_heads": 2, "dim": 32, "hidden_dim": 64}
    config = DistilBertConfig(vocab_size=_words(folder), max_position_embeddings=_WORDS, **size)
    DistilBertModel(config).save_pretrained(folder)
    return str(folder)


def _clip(folder: Path) -> str:
    """Write the picture tower of a CLIP of transformers, with its image processor."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    CLIPVisionModel(CLIPVisionConfig(image_size=32, patch_size=8, **_SIZE)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


def _wav2vec2(folder: Path) -> str:
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    strides: dict[str, Any] = {"conv_dim": [32] * 3, "conv_kernel": [10, 8, 8], "conv_stride": [10, 8, 8]}
    Wav2Vec2Model(Wav2Vec2Config(num_conv_pos_embeddings=16, **strides, **_SIZE)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return str(folder)
