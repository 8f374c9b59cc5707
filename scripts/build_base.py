"""Build the bundled base weights of the default encoders, from which adapter=lora and adapter=frozen start.

    python scripts/build_base.py              # trains `experiment=base` on the train split, then packs it
    python scripts/build_base.py --run RUN    # packs a run that is already there

The file holds encoders, fusion and the heads of the default objectives in bfloat16; its metadata tell how it was made, and
the file of the same name beside it what they are weights of, so that `teacher=bundled` can build them.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from mmexp.build import ASSETS, best_checkpoint, run_config
from mmexp.weights import part_of, read_weights

FILE = ASSETS / "base" / "vit.safetensors"
KEPT = ("encoders.", "fusion", "objectives.contrastive", "objectives.matching")


def train(directory: Path) -> None:
    """Train the recipe."""
    command = [sys.executable, "-m", "mmexp", "train", "experiment=base", f"hydra.run.dir={directory}"]
    subprocess.run(command, check=True)


def pack(directory: Path) -> None:
    """Write the run's best weights, in half the space, with where they come from."""
    run = json.loads((directory / "run.json").read_text())
    weights = {n: t for n, t in read_weights(best_checkpoint(directory)).items() if part_of(n).startswith(KEPT)}
    told = {key: json.dumps(run[key]) for key in ("seed", "steps", "data_fingerprint", "versions")}
    # Where it was written to and on how many threads is of the machine that it was trained on.
    asked = [o for o in run["overrides"] if not o.startswith(("hydra.", "hardware."))]
    told["command"] = json.dumps(" ".join(["mmexp train", *asked]))
    FILE.parent.mkdir(exist_ok=True)
    save_file({name: tensor.to(torch.bfloat16).contiguous() for name, tensor in weights.items()}, FILE, told)
    FILE.with_suffix(".yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(described(run_config(directory)))))
    print(f"{FILE.name}: {sum(t.numel() for t in weights.values()):,} weights, {FILE.stat().st_size / 1e6:.1f} MB")


def described(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return of a run's configuration what the weights that were kept are built by."""
    kept = {name: config["objective"][name] for name in ("contrastive", "matching")}
    return {**{group: config[group] for group in ("encoder", "fusion", "adapter")}, "objective": kept}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a finished run directory")
    directory = parser.parse_args().run
    if directory is None:
        directory = Path("outputs/runs/base")
        train(directory)
    pack(directory)
