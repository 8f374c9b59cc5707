"""A run with smaller weights, made from another one: its directory, as a run that knows its parent."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmexp import build
from mmexp.compression.calibrating import calibrate, robust, sensitivities
from mmexp.compression.packing import packed
from mmexp.compression.pruning import prune, zero
from mmexp.compression.quantizing import CHOSEN, left_whole
from mmexp.compression.shapes import factorise
from mmexp.data.chosen import ChosenSamples
from mmexp.data.loaders import evaluation_loader
from mmexp.data.loading import Loading
from mmexp.judging.said import Judged, gather
from mmexp.model import Model
from mmexp.runs.parents import fingerprint, parent
from mmexp.runs.record import RunRecord
from mmexp.weights import QUANTIZATION

# Rows by whose way through an encoder it is found which layers depend on each other.
TRACED = 2
# Rows by which it is found what ranges layers see, and which of them suffer.
CALIBRATED = 256


def compress(run: Path, directory: Path, about: dict[str, Any], step: str, amount: Any, sensitive: float = 0.0) -> None:
    """Write a run whose weights are those of `run` after one step: prune, zeros, low_rank (a share) or quantize (how).

    `about` are the facts of its record; with `int8_mixed` the most `sensitive` share of layers keeps its numbers. Raises
    RequestError where an encoder cannot be made smaller so.
    """
    config = {**build.run_config(run)}
    settings = {"_target_": "mmexp.training.compression.Compression", **(config.get("compression") or {})}
    model, heads = build.restore(run, computing=False)
    model.eval()
    if step == "prune":
        splits = build.data_source(config).splits
        rows = next(iter(evaluation_loader(splits["val"], model.encoders, Loading(TRACED))))
        for name, encoder in model.encoders.items():
            prune(encoder, rows[name], amount)
    elif step == "low_rank":
        for encoder in model.encoders.values():
            factorise(encoder, amount)
    elif step == "zeros":
        found = zero(model, amount)
        about = {**about, "zeros": found}
        print(f"zeros={amount:g}: {_share_of_zeros(found)}")
    changed = {"prune": {"shapes": "loaded"}, "low_rank": {"shapes": "loaded"}, "zeros": {"zeros": "kept"}}
    settings |= changed.get(step, {"quantize": amount, "aware": False})
    config |= {"compression": settings, "init_from": str(run), "train": False, "resume": None}
    # Adapters are in the weights now.
    config["adapter"] = {"_target_": "mmexp.adapters.full.Full"}
    state: Any = nn.ModuleDict({"model": model, "objectives": nn.ModuleDict(heads)}).state_dict()
    if step == "quantize":
        chosen = _chosen(model, heads, config, amount, sensitive)
        state = packed(state, amount, {f"model.{name}" for name in left_whole(model, amount, chosen)})
        state |= {f"{QUANTIZATION}{name}": ranges for name, ranges in chosen.items()}
    _write(directory, config, about, state)


def _share_of_zeros(found: Mapping[str, int]) -> str:
    """Return of what which share is zero, by the counts of `zero`."""
    zeros, layers, every = found["zero"], found["layers"], found["all"]
    return (
        f"{zeros:,} weights are zero: {zeros / layers:.1%} of the {layers:,} of linear layers and convolutions, "
        f"{zeros / every:.1%} of all {every:,} of encoders and fusion (embeddings, norms and biases stay, and so do heads)"
    )


def _chosen(model: Model, heads: Mapping[str, nn.Module], config: Any, how: str, sensitive: float) -> dict[str, Tensor]:
    """Return the layers that are to compute with int8, where that is said of each, by rows of the train split."""
    if how not in CHOSEN:
        return {}
    train = build.data_source(config).splits["train"]
    rows = ChosenSamples(train, np.linspace(0, len(train) - 1, min(CALIBRATED, len(train))).round().astype(int))
    judged = Judged("", model, heads)

    def said() -> dict[str, Tensor]:
        gathered = gather(judged, rows).stacked()
        final = {name: one for name, one in gathered.items() if name.startswith(("vector/", "logits"))}
        return final or {name: one for name, one in gathered.items() if name.startswith("pooled/")}

    if how == "int8_static":
        return calibrate(model, said)
    return {name: torch.empty(0) for name in robust(sensitivities(model, said), sensitive)}


def _write(directory: Path, config: dict[str, Any], about: dict[str, Any], state: dict[str, Any]) -> None:
    from omegaconf import OmegaConf

    told = {**about, "parents": [parent("init_from", str(config["init_from"]))], "fingerprint": fingerprint(config)}
    record = RunRecord(directory, told)
    record.start(OmegaConf.to_yaml(OmegaConf.create(config)), build.classes_of(Path(str(config["init_from"]))))
    (directory / "checkpoints").mkdir(exist_ok=True)
    torch.save({"state_dict": state, "global_step": 0}, directory / "checkpoints" / "best.ckpt")
    record.finish("completed")
