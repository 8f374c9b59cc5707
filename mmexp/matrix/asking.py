"""From a combination of choices to the overrides that ask for it, small and without a download."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from mmexp.compose import compose, resolved
from mmexp.matrix.rows import write_table
from mmexp.matrix.stand_ins import write_stand_ins
from mmexp.matrix.trying import built
from mmexp.signatures import signature

TOWERS = ("image", "text", "audio", "video")
ALONE = "none"  # where a kind of tower may be left out
# What makes a choice small: of models that are large, or only a name away from the hub.
_CLIP = ("name={open_clip}", "pretrained=null")
_SIGLIP = ("name={siglip}", "pretrained=null")
_TINY_VIT = "options={embed_dim: 48, depth: 2, num_heads: 3}"
_TINY_AST = "{num_hidden_layers: 1, hidden_size: 32, num_attention_heads: 2, intermediate_size: 64, max_length: 48}"
SMALL: dict[str, tuple[str, ...]] = {
    "encoder/image=timm": ("name=resnet10t", "image_size=64"),
    "encoder/image=dinov2": ("pretrained=false", "image_size=56", _TINY_VIT),
    "encoder/image=dinov3": ("pretrained=false", "image_size=64", _TINY_VIT),
    "encoder/image=efficientnet_lite0": ("weights=null", "image_size=64"),
    "encoder/image=mobilenet_v2": ("weights=null", "image_size=64"),
    "encoder/image=open_clip": _CLIP,
    "encoder/image=clip": _CLIP,
    "encoder/image=siglip": _SIGLIP,
    "encoder/image=huggingface": ("name={clip}",),
    "encoder/text=open_clip": _CLIP,
    "encoder/text=clip": _CLIP,
    "encoder/text=siglip": _SIGLIP,
    "encoder/text=bert": ("name={bert}", "context_length=32"),
    "encoder/text=minilm": ("name={bert}", "context_length=32"),
    "encoder/text=minilm_offline": ("name={bert}", "context_length=32"),
    "encoder/text=distilbert": ("name={distilbert}", "context_length=32"),
    "encoder/text=huggingface": ("name={bert}",),
    "encoder/audio=spectrogram": ("seconds=0.5",),
    "encoder/audio=cnn": ("seconds=0.5",),
    "encoder/audio=ast": ("name=null", "pretrained=false", f"options={_TINY_AST}"),
    "encoder/audio=huggingface": ("name={wav2vec2}", "seconds=0.5"),
}


def groups() -> dict[str, list[str]]:
    """Return the groups whose choices are tried with each other, in the order in which a model is built."""
    optional = {f"encoder/{name}": [ALONE, *choices_of(f"encoder/{name}")] for name in ("audio", "video")}
    needed = {group: choices_of(group) for group in ("encoder/image", "encoder/text")}
    return {**needed, **optional, **{group: choices_of(group) for group in ("fusion", "objective", "adapter")}}


def choices_of(group: str) -> list[str]:
    """Return the choices of a group of the configuration."""
    folder: Any = files("mmexp.conf") / group
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


class Asking:
    """Knows the data, weights and teachers that combinations need; they stand below `folder`."""

    def __init__(self, folder: Path):
        self.folder, self.table = folder, write_table(folder)
        self.names = write_stand_ins(folder)
        self._teacher: Path | None = None

    def overrides(self, chosen: Mapping[str, str]) -> list[str]:
        """Return what asks for a combination, with whatever its objective and adapter need beside it."""
        objective = chosen["objective"]
        needs = needs_of(objective)
        asked = [*self._shared(chosen), f"adapter={chosen['adapter']}"]
        beside = ["matching"] if "fused" not in needs and chosen["fusion"] != "none" else []
        asked.append(f"objective=[{','.join([objective, *beside])}]")
        if any(need.startswith("teacher.") for need in needs):
            asked += ["task=distill", f"teacher={self.teacher()}"]
        if "targets" in needs:
            asked += ["data.columns.label=labels", "data.label_separator='|'"]
        if chosen["adapter"] != "full" or objective == "prompted":
            asked.append(f"init_from={self.start(chosen)}")
        return asked

    def _shared(self, chosen: Mapping[str, str]) -> list[str]:
        """Return data, towers and fusion."""
        asked = [
            *("data=table", f"data.train={self.table}", "data.val_fraction=0.25", "data.batch_size=8", "seed=1"),
            *("data.columns.text=text", "data.columns.label=label", "data.columns.target=number", "data.num_workers=0"),
            *("budget.steps=2", "augmentation=none", "hardware.precision=32-true", "cache.enabled=false"),
            f"fusion={chosen['fusion']}",
        ]
        for name in TOWERS:
            choice = chosen.get(f"encoder/{name}", ALONE)
            if choice == ALONE:
                continue
            asked += [f"data.columns.{name}={name}", f"encoder/{name}={choice}"]
            asked += [f"encoder.{name}.{self._filled(key)}" for key in SMALL.get(f"encoder/{name}={choice}", ())]
        return asked

    def _filled(self, setting: str) -> str:
        """Return a setting with the folder of a stand-in where one is named."""
        key, _, value = setting.partition("=")
        return f"{key}={self.names.get(value.strip('{}'), value)}"

    def start(self, chosen: Mapping[str, str]) -> Path:
        """Return weights, as if trained, of the towers and the fusion of a combination, and of a common space."""
        objectives = "contrastive" if chosen["fusion"] == "none" else "[contrastive,matching]"
        return self._written("start", [*self._shared(chosen), f"objective={objectives}"])

    def teacher(self) -> Path:
        """Return the weights of a small model that says all that a student may learn from."""
        if self._teacher is None:
            chosen = {"encoder/image": "vit", "encoder/text": "transformer", "encoder/audio": "spectrogram"}
            asked = self._shared({**chosen, "fusion": "concat"})
            heads = "objective=[contrastive,classify,caption]"
            self._teacher = self._written(
                "teacher", [*asked, heads, "objective.caption.dim=48", "objective.caption.depth=1"]
            )
        return self._teacher

    def _written(self, name: str, overrides: list[str]) -> Path:
        """Return a file of the weights that `overrides` ask for, with its configuration beside it."""
        from omegaconf import OmegaConf

        task, _ = built(overrides, self.folder)
        whole = nn.ModuleDict({"model": task.model, "objectives": task.objectives})
        file = self.folder / f"{name}.safetensors"
        file.unlink(missing_ok=True)  # tensors that were read from the one before are mapped from it
        save_file({key: tensor.contiguous().clone() for key, tensor in whole.state_dict().items()}, file)
        plain, _ = resolved(compose(overrides))
        OmegaConf.save(OmegaConf.create(plain), file.with_suffix(".yaml"))
        return file


@cache
def needs_of(objective: str) -> set[str]:
    """Return what an objective needs, by its own values."""
    plain, _ = resolved(compose([f"objective={objective}", "fusion=concat", "task=pretrain"]))
    node = plain["objective"][objective]
    return {need.format(**node) for need in signature(node["_target_"]).needs}
