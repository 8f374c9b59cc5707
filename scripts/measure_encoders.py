"""Measure every encoder that the bundled choices name: weights, tokens, width. Prints the table of docs/encoders.md.

    python scripts/measure_encoders.py [CHOICE such as image/resnet ...]

Nothing is downloaded: architectures are built with random weights, those of transformers from the library's own defaults,
which are BERT base, DistilBERT base and the AST of AudioSet. What needs a file of the hub even so is left out.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from mmexp.build.making import make
from mmexp.errors import RequestError
from mmexp.types import Encoded

CHOICES = Path(__file__).parents[1] / "conf" / "encoder"
# A name says what is downloaded: without one, or with a library's default, the same architecture stands here.
BY_LIBRARY = {"audio/ast": {"name": None, "pretrained": False}}
LIKE = {"text/bert": "BertConfig", "text/distilbert": "DistilBertConfig"}


def choices() -> Iterator[str]:
    """Yield every choice of a tower that names its model, as `image/resnet`."""
    for file in sorted(CHOICES.glob("*/*.yaml")):
        if "???" not in file.read_text():
            yield f"{file.parent.name}/{file.stem}"


def settings(choice: str) -> dict[str, Any]:
    """Return what its YAML says, without weights to download."""
    node = yaml.safe_load((CHOICES / f"{choice}.yaml").read_text())
    if "defaults" in node:  # a video's picture encoder, which is what the file says it is by default
        node["image"] = settings(f"image/{node.pop('defaults')[0]['/encoder/image@image']}")
    node.pop("weights") if not str(node["weights"]).startswith("package:") else None
    if "pretrained" in node and not str(node["name"]).startswith("package:"):
        node["pretrained"] = None if "open_clip" in node["_target_"] else False
    return node | BY_LIBRARY.get(choice, {})


def measured(choice: str) -> tuple[int, int, int]:
    """Return weights (of both kinds, trained or not), tokens of one sample, and their width. Raises RequestError."""
    if choice in LIKE:
        return _like(LIKE[choice])
    encoder = make(settings(choice))
    values = {"image": _blank_picture, "text": lambda: "a", "audio": _blank_sound, "video": _blank_video}[
        encoder.modality
    ]()
    with torch.no_grad():
        encoded: Encoded = encoder.eval()(encoder.prepare([values]))
    return _weights(encoder), encoded.tokens.shape[1], encoder.dim


def _like(name: str) -> tuple[int, int, int]:
    import transformers

    config = getattr(transformers, name)()
    model = transformers.AutoModel.from_config(config)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return _weights(model), 0, config.hidden_size


def _weights(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _blank_picture() -> Any:
    from PIL import Image

    return Image.new("RGB", (64, 64))


def _blank_video() -> Any:
    return [_blank_picture()] * 8


def _blank_sound() -> Any:
    import numpy as np

    return np.full(16000 * 11, 0.1, np.float32), 16000


def line(choice: str) -> str:
    """Return the table's first three columns."""
    group, name = choice.split("/")
    try:
        weights, tokens, width = measured(choice)
    except RequestError as error:
        return f"| `encoder/{group}={name}` | {error} | |"
    count = "words" if group == "text" else str(tokens)
    return f"| `encoder/{group}={name}` | {weights / 1e6:.1f} M | {count} × {width} |"


if __name__ == "__main__":
    for one in sys.argv[1:] or choices():
        print(line(one), flush=True)
