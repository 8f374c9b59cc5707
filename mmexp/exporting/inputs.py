"""What the towers' inputs are, for who prepares them without mmexp: `inputs.json`, and the tokenizer."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from mmexp.exporting.subject import Subject
from mmexp.exporting.text_folders import read_file, save_tokenizer
from mmexp.exporting.towers import Tower, prepared_rows, values_of
from mmexp.types import Prepared


def write(subject: Subject, folder: Path) -> None:
    """Write what each tower takes: names, types and shapes of its inputs, and how raw values become them."""
    told = {}
    for name, tower in subject.towers.items():
        inputs = {
            key: [str(part.dtype).removeprefix("torch."), *part.shape[1:]] for key, part in prepared_rows(tower).items()
        }
        told[name] = {
            "modality": tower.encoder.modality,
            "inputs": inputs,
            **_about(tower.encoder, folder / f"{name}-tokenizer"),
        }
    (folder / "inputs.json").write_text(json.dumps(told, indent=2) + "\n")


def _about(encoder: Any, folder: Path) -> dict[str, Any]:
    if encoder.modality == "image":
        # Not every encoder of pictures is one of timm's or open_clip's.
        transform = asdict(encoder.transform) if hasattr(encoder, "transform") else {"size": encoder.image_size}
        return {**transform, "prepare": "RGB, fitted into a square as these keys state; uint8, normalised inside"}
    if encoder.modality == "text":
        stated = {
            "context": encoder.context,
            "prepare": "ids with the tokenizer's marks, cut at the context (tokenizer.json does that; AutoTokenizer with "
            "truncation=True), padded behind; mask true where a token is real",
        }
        if not getattr(encoder, "trims", True):
            stated["prepare"] += "; padded to the context, with a mask that is true everywhere"
        save_tokenizer(encoder, folder)
        return stated
    if encoder.modality == "audio":
        return {
            "rate": getattr(encoder, "rate", None),
            "length": encoder.length,
            "prepare": "mono, float32, zeros behind",
        }
    return {}


def as_others_prepare(tower: Tower, folder: Path) -> Prepared:
    """Return the rows by which an export is checked, texts by the tokenizer that was written beside it, where it is one."""
    encoder: Any = tower.encoder
    file = folder / f"{tower.name}-tokenizer" / "tokenizer.json"
    if encoder.modality != "text" or not file.is_file():
        return prepared_rows(tower)
    prepared = read_file(file, values_of(encoder), encoder.pad_token_id)
    if getattr(encoder, "trims", True):
        return prepared
    ids = prepared["ids"]
    ids = F.pad(ids, (0, encoder.context - ids.shape[1]), value=encoder.pad_token_id)
    return {"ids": ids, "mask": torch.ones_like(ids, dtype=torch.bool)}
