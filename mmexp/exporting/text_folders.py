"""Tokenizers beside exported towers, that cut texts as the run does, and what else a folder states of a text tower."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from mmexp.types import Prepared

_POOLING = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "last": "pooling_mode_lasttoken"}


def save_tokenizer(encoder: Any, folder: Path) -> bool:
    """Write the tokenizer of a text encoder, with truncation at its context; return whether it is one that can be written.

    Of the transformers library `model_max_length` states the context, for `truncation=True`; `tokenizer.json` holds the
    truncation itself, for the tokenizers library.
    """
    own = encoder.tokenizer
    if hasattr(own, "save_pretrained"):
        tokenizer = deepcopy(own)
        tokenizer.model_max_length = encoder.context
        tokenizer.save_pretrained(folder)
        if (folder / "tokenizer.json").is_file():
            _truncate(folder / "tokenizer.json", encoder.context)
        return True
    if hasattr(own, "to_str"):
        folder.mkdir(parents=True, exist_ok=True)
        own.save(str(folder / "tokenizer.json"))
        _truncate(folder / "tokenizer.json", encoder.context)
        return True
    return False


def _truncate(file: Path, length: int) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.enable_truncation(max_length=length)
    tokenizer.save(str(file))


def state_pooling(encoder: Any, folder: Path) -> None:
    """Write how tokens are pooled, and the most tokens of a text, as sentence-transformers states and reads it."""
    pooling = {"word_embedding_dimension": encoder.dim} | {key: how == encoder.pooling for how, key in _POOLING.items()}
    (folder / "1_Pooling").mkdir()
    parts = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling")]
    modules = [
        {"idx": int(name), "name": name, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for name, path, kind in parts
    ]
    _write(folder / "1_Pooling" / "config.json", pooling)
    _write(folder / "modules.json", modules)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": encoder.context, "do_lower_case": False})


def _write(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n")


def read_texts(folder: Path, texts: list[str]) -> Prepared:
    """Return `ids (B, N)` and `mask (B, N)` of texts by the tokenizer of a folder alone, as AutoTokenizer makes them."""
    from transformers import AutoTokenizer

    told = AutoTokenizer.from_pretrained(folder)(texts, padding=True, truncation=True, return_tensors="pt")
    return {"ids": told["input_ids"], "mask": told["attention_mask"].bool()}


def read_file(file: Path, texts: list[str], pad_id: int) -> Prepared:
    """Return `ids (B, N)` and `mask (B, N)` of texts by a `tokenizer.json` alone, as the tokenizers library makes them."""
    from tokenizers import Tokenizer

    from mmexp.encoders.tokens import pad

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    return pad([tokenizer.encode(text).ids for text in texts], pad_id)
