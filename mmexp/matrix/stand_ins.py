"""Small models in folders, with random weights: in place of those that would be downloaded."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

_SIZE: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def write_open_clip(folder: Path) -> str:
    """Return the name of a CLIP of 32 pixels and 16 words in `folder`."""
    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
    text = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
    model = {"embed_dim": 48, "vision_cfg": vision, "text_cfg": text}
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    return f"local-dir:{folder}"


def write_bert(folder: Path) -> str:
    """Return the name of a BERT of two layers in `folder`, with the bundled tokenizer."""
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    file: Any = files("mmexp") / "data" / "assets" / "tokenizer.json"
    marks = {"pad_token": "[PAD]", "mask_token": "[MASK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file), model_max_length=32, **marks)
    tokenizer.save_pretrained(folder)
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=32, **_SIZE)).save_pretrained(folder)
    return str(folder)
