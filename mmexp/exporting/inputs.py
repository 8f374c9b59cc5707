"""What the towers' inputs are, for who prepares them without mmexp: `inputs.json`, and the tokenizer."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmexp.exporting.subject import Subject
from mmexp.exporting.towers import prepared_rows


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
        return {**transform, "prepare": "RGB, fitted into a square as told here; uint8, normalised inside"}
    if encoder.modality == "text":
        told = {
            "context": encoder.context,
            "prepare": "ids with the tokenizer's marks, padded; mask true where a token is real",
        }
        tokenizer = encoder.tokenizer
        if hasattr(tokenizer, "save_pretrained"):
            tokenizer.save_pretrained(folder)
        elif hasattr(tokenizer, "to_str"):
            folder.mkdir()
            tokenizer.save(str(folder / "tokenizer.json"))
        return told
    if encoder.modality == "audio":
        return {
            "rate": getattr(encoder, "rate", None),
            "length": encoder.length,
            "prepare": "mono, float32, zeros behind",
        }
    return {}
