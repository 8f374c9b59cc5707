"""A run with smaller weights, made from another one: its directory, as a run that knows its parent."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmexp import build
from mmexp.compression.packing import packed
from mmexp.compression.pruning import prune, zero
from mmexp.compression.shapes import factorise
from mmexp.data.loaders import evaluation_loader
from mmexp.data.loading import Loading
from mmexp.runs.parents import fingerprint, parent
from mmexp.runs.record import RunRecord

# Rows by whose way through an encoder it is found which layers depend on each other.
TRACED = 2


def compress(run: Path, directory: Path, about: dict[str, Any], step: str, amount: Any) -> None:
    """Write a run whose weights are those of `run` after one step: prune, zeros, low_rank (a share) or quantize (how).

    `about` are the facts of its record. Raises RequestError where an encoder cannot be made smaller so.
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
        zero(model, amount)
    changed = {"prune": {"shapes": "loaded"}, "low_rank": {"shapes": "loaded"}, "zeros": {"zeros": "kept"}}
    settings |= changed.get(step, {"quantize": amount, "aware": False})
    config |= {"compression": settings, "init_from": str(run), "train": False, "resume": None}
    # Adapters are in the weights now.
    config["adapter"] = {"_target_": "mmexp.adapters.full.Full"}
    state: Any = nn.ModuleDict({"model": model, "objectives": nn.ModuleDict(heads)}).state_dict()
    _write(directory, config, about, packed(state, amount) if step == "quantize" else state)


def _write(directory: Path, config: dict[str, Any], about: dict[str, Any], state: dict[str, Any]) -> None:
    from omegaconf import OmegaConf

    told = {**about, "parents": [parent("init_from", str(config["init_from"]))], "fingerprint": fingerprint(config)}
    record = RunRecord(directory, told)
    record.start(OmegaConf.to_yaml(OmegaConf.create(config)))
    (directory / "checkpoints").mkdir(exist_ok=True)
    torch.save({"state_dict": state, "global_step": 0}, directory / "checkpoints" / "best.ckpt")
    record.finish("completed")
